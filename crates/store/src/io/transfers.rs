//! Transfers of one registered file on one io_uring: which the kernel works on, how far each came, and what ended.
//!
//! Buffers are not registered: a block read is handed on without a copy and must return to its pool whenever its last reader drops it, so
//! they would have to be registered in every ring; in huge pages, pinning them anew costs little. Sources: io_uring_setup(2),
//! io_uring_enter(2).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::buffer::ALIGN;
use super::device::{Cargo, Request};

/// Transfers in the kernel at once. Covers the largest sensible read depth and the writes.
const DEPTH: u32 = 256;

/// `user_data` of the poll that wakes a waiting thread; transfers use their slot number.
const WAKE: u64 = u64::MAX;

/// A request and how it ended.
pub(super) type Ended = (io::Result<()>, Request);

/// A request in the kernel, and how much of it was transferred.
struct InFlight {
    request: Request,
    moved: usize,
}

/// See the module.
pub(super) struct Transfers {
    ring: IoUring,
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Reused list of completions: result and flags by `user_data`.
    completed: Vec<(u64, i32, u32)>,
    /// Kept open for the ring's registered file.
    _file: Arc<File>,
}

impl Transfers {
    /// No transfers yet, of `file` on `ring`.
    pub(super) fn new(ring: IoUring, file: Arc<File>) -> io::Result<Transfers> {
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let slots = (0..DEPTH).map(|_| None).collect();
        let completed = Vec::with_capacity(DEPTH as usize + 1);
        Ok(Transfers { ring, slots, free: (0..DEPTH).rev().collect(), completed, _file: file })
    }

    /// How many more may begin.
    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    /// Whether the kernel has none and none is queued for it.
    pub(super) fn idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// A descriptor that is readable when transfers ended.
    pub(super) fn readable(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring keeps its descriptor open, and it is borrowed only until it is cloned.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Queues a transfer for the next [`Transfers::submit`]. There must be [`Transfers::room`].
    pub(super) fn begin(&mut self, request: Request) {
        let slot = self.free.pop().expect("the caller asked whether there is room");
        self.slots[slot as usize] = Some(InFlight { request, moved: 0 });
        self.push(slot);
    }

    /// Hands what is queued to the kernel, and waits until `wanted` completions are there.
    pub(super) fn submit(&mut self, wanted: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wanted) {
            Ok(_) => Ok(()),
            // Nothing is lost: what was not taken stays queued.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether something waits for the next [`Transfers::submit`].
    pub(super) fn queued(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Polls `fd`, which the caller keeps open as long as this: a readable one ends a wait in [`Transfers::submit`].
    pub(super) fn watch(&mut self, fd: RawFd) {
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true);
        self.enqueue(poll.build().user_data(WAKE));
    }

    /// Moves every transfer that ended to `ended` and queues the rest of short ones. True if the poll of [`Transfers::watch`] ended too.
    pub(super) fn reap(&mut self, ended: &mut Vec<Ended>) -> bool {
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        let mut unwatched = false;
        for (user_data, result, flags) in completed.drain(..) {
            if user_data == WAKE {
                unwatched |= !cqueue::more(flags);
            } else if let Ok(slot) = u32::try_from(user_data) {
                ended.extend(self.end(slot, result));
            }
        }
        self.completed = completed;
        unwatched
    }

    /// Forgets transfers the kernel may still work on, and leaks their buffers: only after a failed ring, a panic, or the end of a
    /// runtime are there any. Nothing may begin afterwards.
    pub(super) fn abandon(&mut self) {
        for InFlight { request, .. } in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget(request.cargo);
        }
    }

    fn end(&mut self, slot: u32, result: i32) -> Option<Ended> {
        let flight = self.slots[slot as usize].as_mut()?;
        let outcome = match result {
            r if r == -libc::EINTR || r == -libc::EAGAIN => {
                self.push(slot);
                return None;
            }
            r if r < 0 => Err(io::Error::from_raw_os_error(-r)),
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            r => {
                let moved = flight.moved + r as usize;
                // A short transfer continues at the last page boundary, as O_DIRECT demands.
                let whole_pages = moved - moved % ALIGN;
                if moved < flight.request.cargo.len() && whole_pages > flight.moved {
                    flight.moved = whole_pages;
                    self.push(slot);
                    return None;
                }
                if moved == flight.request.cargo.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
        };
        let InFlight { request, .. } = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some((outcome, request))
    }

    /// Queues the rest of the transfer in `slot`.
    fn push(&mut self, slot: u32) {
        let Some(InFlight { request, moved }) = &mut self.slots[slot as usize] else { return };
        let left = u32::try_from(request.cargo.len() - *moved).expect("buffers are far below 4 GiB");
        let offset = request.offset + *moved as u64;
        let entry = match &mut request.cargo {
            Cargo::Fill(buf) => {
                // SAFETY: `moved <= len`, so the address is inside the buffer or one past it.
                let at = unsafe { buf.as_mut_ptr().add(*moved) };
                opcode::Read::new(types::Fixed(0), at, left).offset(offset).build()
            }
            from @ (Cargo::Store(_) | Cargo::Lent(_)) => {
                opcode::Write::new(types::Fixed(0), from[*moved..].as_ptr(), left).offset(offset).build()
            }
        };
        self.enqueue(entry.user_data(u64::from(slot)));
    }

    fn enqueue(&mut self, entry: squeue::Entry) {
        // SAFETY: the entry points into a buffer that `slots` owns until its completion is seen (or for ever, in `drop`), or at a
        // descriptor that the caller keeps open.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // Cannot be: the queue has room for every slot and the poll. Submitting makes room all the same.
            let _ = self.ring.submit();
            // SAFETY: as above.
            let _ = unsafe { self.ring.submission().push(&entry) };
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// A ring for one thread that waits in it: completions run where it waits, so that no other thread is interrupted. The best flags the
/// kernel takes: 6.1, then 5.19, then any.
pub(super) fn ring_of_a_thread() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .build(DEPTH * 2)
        .or_else(|_| ring_of_many())
}

/// A ring that any thread may submit to; a thread that computes is not interrupted by completions.
pub(super) fn ring_of_many() -> io::Result<IoUring> {
    IoUring::builder().setup_coop_taskrun().build(DEPTH * 2).or_else(|_| IoUring::new(DEPTH * 2))
}
