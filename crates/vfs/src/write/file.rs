//! The writing side of one open inode: what is pending, who waits for it, and what became of earlier writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use shoal_format::Time;
use shoal_meta::Refusal;
use shoal_types::ErrorKind;
use tokio::sync::{Notify, RwLock, watch};

use super::pending::{Overlay, Pending};

/// Writes of one inode. Shared by its handles.
pub(crate) struct FileWrites {
    state: Mutex<State>,
    /// True while something is pending: readers look here before they take the lock.
    any: AtomicBool,
    /// One past the last pending byte; 0 without any.
    end: AtomicU64,
    /// Every slice with a lower number is in the volume or given up.
    done: watch::Sender<u64>,
    /// The committer looks again.
    pub wake: Notify,
    /// Writers hold it shared; what needs a file without pending writes (a truncation) holds it alone.
    pub gate: RwLock<()>,
    /// Writes given up since the file was opened first.
    failures: AtomicU64,
    last_failure: Mutex<Option<Failure>>,
}

/// Why a write was given up.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    /// Which rule of the volume forbade it, if one did.
    pub refusal: Option<Refusal>,
    pub detail: Arc<str>,
}

pub(crate) struct State {
    pub pending: Pending,
    /// True while a task commits what is pending.
    pub committing: bool,
}

impl FileWrites {
    pub(crate) fn new(block_size: u32) -> FileWrites {
        FileWrites {
            state: Mutex::new(State { pending: Pending::new(block_size), committing: false }),
            any: AtomicBool::new(false),
            end: AtomicU64::new(0),
            done: watch::Sender::new(0),
            wake: Notify::new(),
            gate: RwLock::new(()),
            failures: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        }
    }

    /// Changes what is pending, and makes the change known to readers and those who wait.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let end = state.pending.end_and_time().map_or(0, |(end, _)| end);
        self.any.store(!state.pending.is_empty(), Ordering::Release);
        self.end.store(end, Ordering::Release);
        let done = state.pending.done_below();
        self.done.send_if_modified(|known| std::mem::replace(known, done) != done);
        result
    }

    /// True if a write would have to wait for a commit first.
    pub(crate) fn is_full(&self) -> bool {
        self.any.load(Ordering::Acquire) && self.state.lock().pending.is_full()
    }

    /// Waits until slices below `number` are in the volume or given up. Cancel-safe.
    pub(crate) async fn wait_done(&self, number: u64) {
        let mut done = self.done.subscribe();
        done.wait_for(|done| *done >= number).await.expect("the sender lives as long as this does");
    }

    /// Waits until there is room for another slice. Cancel-safe.
    pub(crate) async fn wait_room(&self) {
        let mut done = self.done.subscribe();
        while self.is_full() {
            done.changed().await.expect("the sender lives as long as this does");
        }
    }

    /// One past the last pending byte of the file; 0 without any. To be read before the length in the volume.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// True while something is pending.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// One past the last pending byte, and the time of the last write.
    pub(crate) fn end_and_time(&self) -> Option<(u64, Time)> {
        if self.any() { self.state.lock().pending.end_and_time() } else { None }
    }

    /// Pending bytes of these spans: chunk, start and end in it, place in the answer.
    pub(crate) fn overlay(&self, spans: impl Iterator<Item = (u32, u32, u32, usize)>) -> Vec<Overlay> {
        let mut found = Vec::new();
        if self.any() {
            let state = self.state.lock();
            spans.for_each(|(chunk, start, end, at)| state.pending.overlay(chunk, start, end, at, &mut found));
        }
        found
    }

    /// A write was given up: every handle is to hear of it.
    pub(crate) fn failed(&self, failure: Failure) {
        *self.last_failure.lock() = Some(failure);
        self.failures.fetch_add(1, Ordering::Release);
    }

    /// How many writes were given up so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// The latest failure, if there were more than `seen`; they count as seen then.
    pub(crate) fn unseen_failure(&self, seen: &AtomicU64) -> Option<Failure> {
        let now = self.failures();
        if seen.swap(now, Ordering::AcqRel) == now { None } else { self.last_failure.lock().clone() }
    }
}
