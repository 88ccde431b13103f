//! io_uring: one ring and one thread for each slab file.
//!
//! The thread alone touches the ring (SINGLE_ISSUER) and runs completions where it waits (DEFER_TASKRUN), so that no other thread is
//! interrupted; kernels without these flags get a plainer ring. Requests arrive through a queue; an eventfd that the ring polls wakes a
//! waiting thread, and is left alone while the thread is busy. The slab file is registered once; buffers are not: with huge pages pinning
//! is cheap, and a registered arena would end where blocks are handed on without a copy. Sources: io_uring_setup(2), io_uring_enter(2).

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use shoal_runtime::task;

use super::buffer::ALIGN;
use super::device::{Device, Op, Request, ended};

/// Transfers in the kernel at once; more wait in the queue. Covers the largest sensible read depth and the writes.
const DEPTH: u32 = 256;

/// `user_data` of the poll on the eventfd; transfers use their slot number.
const WAKE: u64 = u64::MAX;

/// A file driven by its own ring and thread.
#[derive(Debug)]
pub(crate) struct UringDevice {
    shared: Arc<Shared>,
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
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), asleep: AtomicBool::new(false), wake });
        let (tell, told) = mpsc::sync_channel(1);
        let for_thread = Arc::clone(&shared);
        task::thread(label, move || match Driver::new(file, for_thread) {
            Ok(driver) => {
                let _ = tell.send(Ok(()));
                driver.run();
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        });
        told.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(UringDevice { shared })
    }
}

impl Device for UringDevice {
    fn submit(&self, request: Request) {
        {
            let mut queue = self.shared.queue.lock();
            if queue.dead {
                drop(queue);
                return (request.done)(Err(ended()), request.buf);
            }
            queue.requests.push_back(request);
        }
        self.shared.wake();
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
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

/// A request in the kernel, and how much of it was transferred.
struct InFlight {
    request: Request,
    moved: usize,
}

/// The thread's side.
struct Driver {
    ring: IoUring,
    shared: Arc<Shared>,
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Reused list of requests on their way from the queue to the ring.
    taken: Vec<Request>,
    /// Reused list of completions, so that callbacks run outside the ring's borrow.
    completed: Vec<(u64, i32, u32)>,
    /// Kept open for the ring's registered file.
    _file: File,
}

impl Driver {
    fn new(file: File, shared: Arc<Shared>) -> io::Result<Driver> {
        let ring = build_ring()?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let slots = (0..DEPTH).map(|_| None).collect();
        let free = (0..DEPTH).rev().collect();
        let completed = Vec::with_capacity(DEPTH as usize + 1);
        let mut driver = Driver { ring, shared, slots, free, taken: Vec::new(), completed, _file: file };
        driver.arm_wake();
        driver.ring.submit()?;
        // A kernel that does not know multishot poll (before 5.13) answers at once.
        let refusal = driver.ring.completion().next().map(|entry| entry.result()).filter(|&result| result < 0);
        refusal.map_or(Ok(driver), |result| Err(io::Error::from_raw_os_error(-result)))
    }

    fn run(mut self) {
        loop {
            let (more, closed) = self.accept();
            if closed && !more && self.free.len() == self.slots.len() {
                return;
            }
            self.shared.asleep.store(true, Ordering::SeqCst);
            let look_again = {
                let queue = self.shared.queue.lock();
                !queue.requests.is_empty() && !self.free.is_empty() || queue.closed != closed
            };
            let wanted = if look_again { 0 } else { 1 };
            let result = self.ring.submit_and_wait(wanted);
            self.shared.asleep.store(false, Ordering::SeqCst);
            if let Err(error) = result
                && !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
            {
                return self.give_up(&error);
            }
            self.complete();
        }
    }

    /// Moves requests from the queue to the kernel's; says whether some are left, and whether the device was closed.
    fn accept(&mut self) -> (bool, bool) {
        let mut taken = std::mem::take(&mut self.taken);
        let (more, closed) = {
            let mut queue = self.shared.queue.lock();
            let room = self.free.len().min(queue.requests.len());
            taken.extend(queue.requests.drain(..room));
            (!queue.requests.is_empty(), queue.closed)
        };
        for request in taken.drain(..) {
            let slot = self.free.pop().expect("no more were taken than slots are free");
            self.slots[slot as usize] = Some(InFlight { request, moved: 0 });
            self.push(slot);
        }
        self.taken = taken;
        (more, closed)
    }

    /// Queues the rest of the transfer in `slot`.
    fn push(&mut self, slot: u32) {
        let Some(InFlight { request, moved }) = &mut self.slots[slot as usize] else { return };
        let left = u32::try_from(request.buf.len() - *moved).expect("buffers are far below 4 GiB");
        let offset = request.offset + *moved as u64;
        // SAFETY: `moved <= len`, so the address is inside the buffer or one past it.
        let at = unsafe { request.buf.as_mut_ptr().add(*moved) };
        let entry = match request.op {
            Op::Read => opcode::Read::new(types::Fixed(0), at, left).offset(offset).build(),
            Op::Write => opcode::Write::new(types::Fixed(0), at, left).offset(offset).build(),
        };
        self.enqueue(entry.user_data(u64::from(slot)));
    }

    fn arm_wake(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.shared.wake.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.enqueue(poll.build().user_data(WAKE));
    }

    fn enqueue(&mut self, entry: squeue::Entry) {
        // SAFETY: the entry points into a buffer that `slots` owns until its completion is seen (or for ever, in `give_up`), or
        // at the eventfd, which `shared` keeps open as long as the ring.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // Cannot be: the queue has room for every slot and the poll. Submitting makes room all the same.
            let _ = self.ring.submit();
            // SAFETY: as above.
            let _ = unsafe { self.ring.submission().push(&entry) };
        }
    }

    /// Ends or continues every transfer the kernel reports.
    fn complete(&mut self) {
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        for (user_data, result, flags) in completed.drain(..) {
            if user_data == WAKE {
                if !cqueue::more(flags) {
                    self.arm_wake();
                }
            } else if let Ok(slot) = u32::try_from(user_data) {
                self.end(slot, result);
            }
        }
        self.completed = completed;
    }

    fn end(&mut self, slot: u32, result: i32) {
        let Some(flight) = &mut self.slots[slot as usize] else { return };
        let outcome = match result {
            r if r == -libc::EINTR || r == -libc::EAGAIN => return self.push(slot),
            r if r < 0 => Err(io::Error::from_raw_os_error(-r)),
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            r => {
                let moved = flight.moved + r as usize;
                // A short transfer continues at the last page boundary, as O_DIRECT demands.
                let whole_pages = moved - moved % ALIGN;
                if moved < flight.request.buf.len() && whole_pages > flight.moved {
                    flight.moved = whole_pages;
                    return self.push(slot);
                }
                if moved == flight.request.buf.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
        };
        if let Some(InFlight { request, .. }) = self.slots[slot as usize].take() {
            self.free.push(slot);
            (request.done)(outcome, request.buf);
        }
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
            (request.done)(Err(ended()), request.buf);
        }
    }
}

impl Drop for Driver {
    /// Leaks the buffers of transfers the kernel may still work on: only after a failed ring or a panic are there any.
    fn drop(&mut self) {
        for InFlight { request, .. } in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget(request.buf);
        }
    }
}

/// A ring with the best flags the kernel takes: 6.1, then 5.19, then any.
fn build_ring() -> io::Result<IoUring> {
    let entries = DEPTH * 2;
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .build(entries)
        .or_else(|_| IoUring::builder().setup_coop_taskrun().build(entries))
        .or_else(|_| IoUring::new(entries))
}
