//! Chooses how I/O is done, once for a store, and starts devices that way.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::device::Device;
use super::psync::PlainDevice;
use super::uring::UringDevice;
use crate::config::IoChoice;

/// A way of doing I/O that works on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// One io_uring for each file.
    Uring,
    /// A few threads for each file.
    Plain,
}

impl Engine {
    /// The engine `choice` asks for. [`IoChoice::Auto`] tries io_uring and says once why not; [`IoChoice::Uring`] fails then.
    pub(crate) fn choose(choice: IoChoice) -> io::Result<Engine> {
        match choice {
            IoChoice::Plain => Ok(Engine::Plain),
            IoChoice::Uring => probe().map(|()| Engine::Uring),
            IoChoice::Auto => Ok(match probe() {
                Ok(()) => Engine::Uring,
                Err(error) => {
                    tracing::warn!(%error, "io_uring is refused here (seccomp or an old kernel?); plain reads and writes cost more CPU");
                    Engine::Plain
                }
            }),
        }
    }

    /// A device over `file`; its threads are named `label`.
    pub(crate) fn start(self, file: File, label: &str) -> io::Result<Arc<dyn Device>> {
        match self {
            Engine::Uring => Ok(Arc::new(UringDevice::start(file, label)?)),
            Engine::Plain => Ok(Arc::new(PlainDevice::start(file, label))),
        }
    }
}

/// Starts a ring as devices do, on a file that is always there, and lets it go.
fn probe() -> io::Result<()> {
    UringDevice::start(File::open("/dev/null")?, "store-probe").map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Pool;
    use super::super::device::{Cargo, Request, Way, read};
    use super::*;

    fn engines() -> Vec<Engine> {
        let mut engines = vec![Engine::Plain];
        match Engine::choose(IoChoice::Uring) {
            Ok(engine) => engines.push(engine),
            Err(error) => eprintln!("SKIPPED io_uring: {error}"),
        }
        engines
    }

    async fn write(device: &Arc<dyn Device>, offset: u64, byte: u8, len: usize) -> io::Result<()> {
        let mut buf = Pool::new(0).get(len);
        buf.fill(byte);
        let (tell, told) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result, _| tell.send(result).expect("the test waits"));
        device.submit(Request { way: Way::Thread, offset, cargo: Cargo::Store(buf), done });
        told.await.unwrap()
    }

    #[tokio::test]
    async fn what_was_written_is_read_back_by_every_engine() {
        for engine in engines() {
            let device = engine.start(tempfile::tempfile().unwrap(), "store-test").unwrap();
            write(&device, 8192, 7, 3 << 20).await.unwrap();
            let buf = read(&*device, 8192, Pool::new(0).get(3 << 20)).await.unwrap();
            assert!(buf.iter().all(|&byte| byte == 7), "{engine:?}");
        }
    }

    #[tokio::test]
    async fn a_read_past_the_end_fails_in_every_engine() {
        for engine in engines() {
            let device = engine.start(tempfile::tempfile().unwrap(), "store-test").unwrap();
            write(&device, 0, 7, 4096).await.unwrap();
            let error = read(&*device, 0, Pool::new(0).get(8192)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{engine:?}");
        }
    }

    #[tokio::test]
    async fn a_dropped_read_leaves_the_device_working() {
        for engine in engines() {
            let device = engine.start(tempfile::tempfile().unwrap(), "store-test").unwrap();
            write(&device, 0, 7, 1 << 20).await.unwrap();
            let pool = Pool::new(64 << 20);
            for _ in 0..1000 {
                let mut reading = Box::pin(read(&*device, 0, pool.get(1 << 20)));
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(reading.as_mut().poll(cx))).await;
                drop((polled, reading));
            }
            let buf = read(&*device, 0, pool.get(1 << 20)).await.unwrap();
            assert!(buf.iter().all(|&byte| byte == 7), "{engine:?}");
        }
    }
}
