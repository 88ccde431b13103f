//! A ring that belongs to a tokio runtime: who reads submits, and the runtime's own poll of its file descriptors sees the completion.
//!
//! No thread is woken on the way there or back, which is most of the time of a 4 KiB read that is not the device's. Every request goes to the
//! kernel at once: one that waited for others would wait for their askers, each of whom computes checksums first, while the device has
//! nothing to do (4 KiB reads, depth 32, raw io_uring that hashes what it reads: submitted together 0.77 of the rate without hashing, one by
//! one 1.03).

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use shoal_runtime::task;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::device::{Request, ended};
use super::transfers::{Ended, Transfers, ring_of_many};

/// See the module.
pub(super) struct LocalRing(Mutex<State>);

impl fmt::Debug for LocalRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRing").finish_non_exhaustive()
    }
}

struct State {
    transfers: Transfers,
    /// Requests for which there was no room.
    waiting: VecDeque<Request>,
    /// Of the task that drives the ring.
    waker: Option<Waker>,
    /// The device is gone: finish and stop.
    closed: bool,
    /// The task is gone: refuse.
    dead: bool,
}

impl LocalRing {
    /// A ring over `file` that is driven by the current runtime, which must have I/O enabled.
    pub(super) fn start(file: Arc<File>) -> io::Result<Arc<LocalRing>> {
        let transfers = Transfers::new(ring_of_many()?, file)?;
        let fd = transfers.readable()?;
        // SAFETY: an `OwnedFd` is always the same open descriptor.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)?;
        let state = State { transfers, waiting: VecDeque::new(), waker: None, closed: false, dead: false };
        let ring = Arc::new(LocalRing(Mutex::new(state)));
        drop(task::spawn("store-ring", Drive { fd, ring: Arc::clone(&ring), ended: Vec::new() }));
        Ok(ring)
    }

    /// Starts a transfer; gives the request back if the runtime that drove the ring has ended.
    pub(super) fn submit(&self, request: Request) -> Result<(), Request> {
        let mut state = self.0.lock();
        if state.dead {
            return Err(request);
        }
        if state.transfers.room() == 0 {
            state.waiting.push_back(request);
            return Ok(());
        }
        state.transfers.begin(request);
        // An error shows again when the task submits.
        if state.transfers.submit(0).is_err() || state.transfers.queued() {
            state.waker.iter().for_each(Waker::wake_by_ref);
        }
        Ok(())
    }

    /// Lets the task end once all transfers have.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waker.iter().for_each(Waker::wake_by_ref);
    }

    /// Whether it was closed or its runtime has ended.
    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }
}

/// What the task has to do next.
enum Next {
    /// Wait for a completion or a request.
    Wait,
    /// Come back soon: the kernel took nothing for now.
    Again,
    /// Nothing, ever.
    End,
}

impl State {
    /// Submits and reaps until nothing is left to do now.
    fn turn(&mut self, ended: &mut Vec<Ended>) -> io::Result<Next> {
        loop {
            self.transfers.reap(ended);
            while self.transfers.room() > 0
                && let Some(request) = self.waiting.pop_front()
            {
                self.transfers.begin(request);
            }
            if !self.transfers.queued() {
                return Ok(if self.closed && self.transfers.idle() { Next::End } else { Next::Wait });
            }
            self.transfers.submit(0)?;
            if self.transfers.queued() {
                return Ok(Next::Again);
            }
        }
    }
}

/// The task that drives a ring.
struct Drive {
    fd: AsyncFd<OwnedFd>,
    ring: Arc<LocalRing>,
    ended: Vec<Ended>,
}

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Drive { fd, ring, ended } = self.get_mut();
        loop {
            let next = {
                let mut state = ring.0.lock();
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                state.turn(ended)
            };
            for (result, Request { cargo, done, .. }) in ended.drain(..) {
                done(result, cargo);
            }
            match next {
                Ok(Next::Wait) => {}
                Ok(Next::Again) => cx.waker().wake_by_ref(),
                Ok(Next::End) => return Poll::Ready(()),
                Err(error) => {
                    tracing::error!(%error, "io_uring stopped working for a runtime; its reads go through the I/O thread");
                    return Poll::Ready(());
                }
            }
            match fd.poll_read_ready(cx) {
                Poll::Ready(Ok(mut guard)) => guard.clear_ready(),
                // The runtime is shutting down.
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Drive {
    /// Ends what was asked of the ring: nobody will see completions any more.
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.ring.0.lock();
            state.dead = true;
            state.waker = None;
            state.transfers.abandon();
            std::mem::take(&mut state.waiting)
        };
        for Request { cargo, done, .. } in waiting {
            done(Err(ended()), cargo);
        }
    }
}
