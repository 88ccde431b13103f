//! io_uring: for each slab file, a ring in every tokio runtime that reads, and one with a thread of its own for everybody else.
//!
//! Reads from a runtime go through its own ring (`local`). Writes come from the writer's thread, and go with all else to the device's
//! thread. That thread alone touches its ring (SINGLE_ISSUER) and runs completions where it waits (DEFER_TASKRUN); kernels without these
//! flags get a plainer ring. Requests arrive through a queue; an eventfd that the ring polls wakes a waiting thread, and is left alone
//! while the thread is busy.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use parking_lot::{Mutex, RwLock};
use rustix::event::{EventfdFlags, eventfd};
use shoal_runtime::task;
use tokio::runtime::{self, Handle};

use super::device::{Device, Request, Way, ended};
use super::local::LocalRing;
use super::transfers::{Ended, Transfers, ring_of_a_thread};

/// A transfer of so many bytes is submitted alone: the kernel would join neighbours that come together into one request, and the device
/// would have one thing to do in the place of several (writes of 4 MiB on virtio in 8 parts: 1.2 times as fast apart as together).
const ALONE_BYTES: usize = 256 << 10;

/// A file driven by rings.
#[derive(Debug)]
pub(crate) struct UringDevice {
    shared: Arc<Shared>,
    file: Arc<File>,
    /// The ring of each runtime that reads: a handful.
    locals: RwLock<Vec<(runtime::Id, Arc<LocalRing>)>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// True while the thread waits, or is about to, without having seen the queue.
    asleep: AtomicBool,
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Request>,
    /// No device handle is left: finish and stop.
    closed: bool,
    /// The thread gave up: refuse.
    dead: bool,
}

impl UringDevice {
    /// Starts the ring's thread, named `label`; the error says why the kernel refuses.
    pub(crate) fn start(file: File, label: &str) -> io::Result<UringDevice> {
        let file = Arc::new(file);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), asleep: AtomicBool::new(false), wake });
        let (tell, told) = mpsc::sync_channel(1);
        let (for_thread, file_of_thread) = (Arc::clone(&shared), Arc::clone(&file));
        task::thread(label, move || match Driver::new(file_of_thread, for_thread) {
            Ok(driver) => {
                let _ = tell.send(Ok(()));
                driver.run();
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        });
        told.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(UringDevice { shared, file, locals: RwLock::default() })
    }

    /// The ring of the runtime that is current here; `None` outside of one, or if the kernel grants no ring.
    fn local(&self) -> Option<Arc<LocalRing>> {
        let id = Handle::try_current().ok()?.id();
        let of = |locals: &[(runtime::Id, Arc<LocalRing>)]| {
            locals.iter().find(|(runtime, _)| *runtime == id).map(|(_, ring)| Arc::clone(ring))
        };
        if let Some(ring) = of(&self.locals.read()) {
            return Some(ring);
        }
        let mut locals = self.locals.write();
        if let Some(ring) = of(&locals) {
            return Some(ring);
        }
        locals.retain(|(_, ring)| !ring.is_dead());
        match LocalRing::start(Arc::clone(&self.file)) {
            Ok(ring) => {
                locals.push((id, Arc::clone(&ring)));
                Some(ring)
            }
            Err(error) => {
                tracing::debug!(%error, "no ring for this runtime; its reads go through the I/O thread");
                None
            }
        }
    }
}

impl Device for UringDevice {
    fn submit(&self, request: Request) {
        let local = (request.way == Way::Runtime).then(|| self.local()).flatten();
        let request = match local {
            None => request,
            Some(ring) => match ring.submit(request) {
                Ok(()) => return,
                Err(request) => request,
            },
        };
        {
            let mut queue = self.shared.queue.lock();
            if queue.dead {
                drop(queue);
                return (request.done)(Err(ended()), request.cargo);
            }
            queue.requests.push_back(request);
        }
        self.shared.wake();
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
        self.locals.get_mut().iter().for_each(|(_, ring)| ring.close());
        self.shared.queue.lock().closed = true;
        self.shared.wake();
    }
}

impl Shared {
    /// Wakes the thread if it waits. The queue was changed before, and the thread looks at the queue after it sets `asleep`.
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // The counter cannot overflow: it would take 2^64 writes.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

/// The thread's side.
struct Driver {
    transfers: Transfers,
    shared: Arc<Shared>,
    /// Reused list of requests on their way from the queue to the ring.
    taken: Vec<Request>,
    /// Reused list of transfers on their way from the ring to their callers.
    ended: Vec<Ended>,
}

impl Driver {
    fn new(file: Arc<File>, shared: Arc<Shared>) -> io::Result<Driver> {
        let mut transfers = Transfers::new(ring_of_a_thread()?, file)?;
        transfers.watch(shared.wake.as_raw_fd());
        transfers.submit(0)?;
        // A kernel that does not know multishot poll (before 5.13) answers at once.
        if transfers.reap(&mut Vec::new()) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        Ok(Driver { transfers, shared, taken: Vec::new(), ended: Vec::new() })
    }

    fn run(mut self) {
        loop {
            let (more, closed) = self.accept();
            if closed && !more && self.transfers.idle() {
                return;
            }
            self.shared.asleep.store(true, Ordering::SeqCst);
            let look_again = {
                let queue = self.shared.queue.lock();
                !queue.requests.is_empty() && self.transfers.room() > 0 || queue.closed != closed
            };
            let result = self.transfers.submit(if look_again { 0 } else { 1 });
            self.shared.asleep.store(false, Ordering::SeqCst);
            if let Err(error) = result {
                return self.give_up(&error);
            }
            if self.transfers.reap(&mut self.ended) {
                self.transfers.watch(self.shared.wake.as_raw_fd());
            }
            for (result, Request { cargo, done, .. }) in self.ended.drain(..) {
                done(result, cargo);
            }
        }
    }

    /// Moves requests from the queue to the kernel's; says whether some are left, and whether the device was closed.
    fn accept(&mut self) -> (bool, bool) {
        let (more, closed) = {
            let mut queue = self.shared.queue.lock();
            let room = self.transfers.room().min(queue.requests.len());
            self.taken.extend(queue.requests.drain(..room));
            (!queue.requests.is_empty(), queue.closed)
        };
        for request in self.taken.drain(..) {
            let alone = request.cargo.len() >= ALONE_BYTES;
            self.transfers.begin(request);
            if alone {
                // An error shows again when the thread waits.
                let _ = self.transfers.submit(0);
            }
        }
        (more, closed)
    }

    /// The ring itself failed: refuse everything from now on.
    fn give_up(self, error: &io::Error) {
        tracing::error!(%error, "io_uring stopped working; its cache directory goes out of service");
        let waiting = {
            let mut queue = self.shared.queue.lock();
            queue.dead = true;
            std::mem::take(&mut queue.requests)
        };
        for request in waiting {
            (request.done)(Err(ended()), request.cargo);
        }
    }
}
