//! The seam between the slab engine and the ways of doing I/O: io_uring, plain threads, and the fault device of tests.

use std::fmt;
use std::io;
use std::ops::Deref;

use bytes::Bytes;

use super::buffer::{ALIGN, Buf};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// File to buffer.
    Read,
    /// Buffer to file.
    Write,
}

/// Who drives a transfer to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The tokio runtime that asks, which has I/O enabled and goes on running; where there is none, as [`Way::Thread`].
    Runtime,
    /// A thread of the device.
    Thread,
}

/// The memory of a transfer, and which way its bytes go.
#[derive(Debug)]
pub(crate) enum Cargo {
    /// Filled from the file.
    Fill(Buf),
    /// Written to the file.
    Store(Buf),
    /// Written to the file, and read by others meanwhile.
    Lent(Lent),
}

/// Bytes of somebody else that a device can write without a copy: whole pages at a page's boundary. They do not change.
#[derive(Debug)]
pub(crate) struct Lent(Bytes);

/// Told how a transfer ended; runs on an I/O thread or in a runtime's task, so it must be short and never block.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>, Cargo) + Send>;

/// One transfer of the whole cargo at a page-aligned file offset.
pub(crate) struct Request {
    pub(crate) way: Way,
    pub(crate) offset: u64,
    pub(crate) cargo: Cargo,
    pub(crate) done: Done,
}

impl Lent {
    /// `bytes`, if a device can write them as they lie.
    pub(crate) fn new(bytes: Bytes) -> Option<Lent> {
        let fits = bytes.len().is_multiple_of(ALIGN) && (bytes.as_ptr() as usize).is_multiple_of(ALIGN);
        (fits && !bytes.is_empty()).then_some(Lent(bytes))
    }
}

impl Cargo {
    /// Which way its bytes go.
    pub(crate) fn op(&self) -> Op {
        match self {
            Cargo::Fill(_) => Op::Read,
            Cargo::Store(_) | Cargo::Lent(_) => Op::Write,
        }
    }

    /// The buffer, unless the memory is somebody else's.
    pub(crate) fn into_buf(self) -> Option<Buf> {
        match self {
            Cargo::Fill(buf) | Cargo::Store(buf) => Some(buf),
            Cargo::Lent(_) => None,
        }
    }

    /// The buffer that is to be filled.
    pub(crate) fn fillable(&mut self) -> Option<&mut Buf> {
        match self {
            Cargo::Fill(buf) => Some(buf),
            Cargo::Store(_) | Cargo::Lent(_) => None,
        }
    }
}

impl Deref for Cargo {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Cargo::Fill(buf) | Cargo::Store(buf) => buf,
            Cargo::Lent(Lent(bytes)) => bytes,
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { way, offset, cargo, .. } = self;
        f.debug_struct("Request")
            .field("op", &cargo.op())
            .field("way", way)
            .field("offset", offset)
            .field("len", &cargo.len())
            .finish()
    }
}

/// A file that transfers buffers. Every request's `done` is called exactly once unless the I/O thread dies, in which case it is
/// dropped. Callers bound the number of requests.
pub(crate) trait Device: Send + Sync + fmt::Debug {
    /// Starts a transfer; never blocks on the transfer itself.
    fn submit(&self, request: Request);
}

/// What a request meets once its I/O thread is gone.
pub(crate) fn ended() -> io::Error {
    io::Error::other("the I/O thread ended")
}

/// Starts to fill `buf` from `offset`, past all accounting: for tests of devices.
#[cfg(test)]
pub(crate) fn read(device: &dyn Device, offset: u64, buf: Buf) -> impl Future<Output = io::Result<Buf>> + use<> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let done: Done = Box::new(move |result, cargo| {
        // Nobody waits any more: the buffer returns to its pool.
        let _ = tell.send(result.and_then(|()| cargo.into_buf().ok_or_else(ended)));
    });
    device.submit(Request { way: Way::Runtime, offset, cargo: Cargo::Fill(buf), done });
    async { told.await.unwrap_or_else(|_| Err(ended())) }
}
