//! Room for blocks on their way into a node: memory and turns, so that nobody who waits for bytes waits behind work done ahead of
//! use.
//!
//! A quarter of the memory is for class foreground alone. A lower class takes its turn, memory included, *before* its fill
//! exists: a reader who wants the block meanwhile starts the fill at once, out of the foreground's memory if need be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shoal_runtime::budget::{Budget, Permit};
use shoal_types::Class;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Part of the memory that only class foreground may take: one in so many.
const RESERVE: u64 = 4;
/// First advice to one who is turned away, in milliseconds, and what each fill that waits adds to it: about what a block of 4 MiB
/// takes at 10 Gbit/s with sixteen at once.
const RETRY_MS: u64 = 50;
const RETRY_MS_EACH: u64 = 5;
/// Longest advice.
const RETRY_MS_MAX: u64 = 5_000;

/// Memory of fills, and turns of those nobody waits for.
#[derive(Debug)]
pub(crate) struct Room {
    shared: Budget,
    reserve: Budget,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The room of one fill, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    memory: Permit,
    /// Held, not read.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Bytes of memory this turn holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Gives back what exceeds `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        self.memory.shrink_to(bytes);
    }
}

impl Room {
    /// `bytes` of memory; at most `slots` turns of classes warm-up and background at once.
    pub(crate) fn new(bytes: u64, slots: usize) -> Room {
        let reserve = bytes / RESERVE;
        Room {
            shared: Budget::new(bytes - reserve),
            reserve: Budget::new(reserve),
            slots: Arc::new(Semaphore::new(slots.max(1))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Memory for a fill that somebody waits for: from either part, whichever has it first. Cancel-safe.
    pub(crate) async fn urgent(&self, bytes: u64) -> Turn {
        if let Some(turn) = self.try_urgent(bytes) {
            return turn;
        }
        let _waiting = self.wait();
        let memory = tokio::select! {
            biased;
            memory = self.reserve.acquire(bytes) => memory,
            memory = self.shared.acquire(bytes) => memory,
        };
        Turn { memory, _slot: None }
    }

    /// [`Room::urgent`], if there is memory at once.
    pub(crate) fn try_urgent(&self, bytes: u64) -> Option<Turn> {
        let memory = self.shared.try_acquire(bytes).or_else(|| self.reserve.try_acquire(bytes))?;
        Some(Turn { memory, _slot: None })
    }

    /// The turn of a fill of `class`, after those that asked earlier. Cancel-safe.
    pub(crate) async fn turn(&self, class: Class, bytes: u64) -> Turn {
        if class == Class::Foreground {
            return self.urgent(bytes).await;
        }
        let _waiting = self.wait();
        let slot = match class {
            Class::Foreground | Class::Fill => None,
            Class::WarmUp | Class::Background => {
                Some(Arc::clone(&self.slots).acquire_owned().await.expect("this semaphore is never closed"))
            }
        };
        Turn { memory: self.shared.acquire(bytes).await, _slot: slot }
    }

    /// Whether a fill of `class` may still queue here; else how long to stay away.
    pub(crate) fn admits(&self, class: Class) -> Result<(), Duration> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting < queue_max(class) {
            return Ok(());
        }
        Err(Duration::from_millis(RETRY_MS_MAX.min(RETRY_MS + RETRY_MS_EACH * waiting as u64)))
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }
}

/// Fills that may wait when one more of `class` comes. A lower class is turned away earlier, so that what waits is what matters.
/// Foreground is bounded by the requests a node answers at once.
const fn queue_max(class: Class) -> usize {
    match class {
        Class::Foreground => usize::MAX,
        Class::Fill => 256,
        Class::WarmUp => 128,
        Class::Background => 64,
    }
}

/// One more that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use futures::FutureExt;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[test]
    fn lower_classes_never_take_the_foregrounds_memory() {
        let room = Room::new(400, 16);
        let _warm = now(room.turn(Class::WarmUp, 300)).unwrap();
        assert!(now(room.turn(Class::WarmUp, 1)).is_none());
        assert!(now(room.turn(Class::Fill, 1)).is_none());
        let foreground = now(room.turn(Class::Foreground, 100)).unwrap();
        assert_eq!(foreground.bytes(), 100);
        assert!(now(room.urgent(1)).is_none());
        drop(foreground);
        assert!(now(room.urgent(100)).is_some());
    }

    #[test]
    fn the_foreground_takes_what_frees_up_first() {
        let room = Room::new(400, 16);
        let warm = now(room.turn(Class::WarmUp, 300)).unwrap();
        let reserve = now(room.urgent(100)).unwrap();
        let mut third = pin!(room.urgent(50));
        assert!(poll(third.as_mut()).is_none());
        drop(warm);
        assert!(poll(third.as_mut()).is_some());
        drop(reserve);
    }

    #[test]
    fn warm_ups_wait_for_slots_and_fills_behind_readers_do_not() {
        let room = Room::new(4000, 2);
        let turns: Vec<Turn> = (0..2).map(|_| now(room.turn(Class::WarmUp, 1)).unwrap()).collect();
        let mut third = pin!(room.turn(Class::Background, 1));
        assert!(poll(third.as_mut()).is_none());
        assert!(now(room.turn(Class::Fill, 1)).is_some());
        drop(turns);
        assert!(poll(third.as_mut()).is_some());
    }

    #[test]
    fn a_long_queue_turns_the_lowest_class_away_first_and_says_for_how_long() {
        let room = Room::new(400, 1);
        let _held = now(room.turn(Class::WarmUp, 1)).unwrap();
        let mut queue: Vec<_> = (0..63).map(|_| Box::pin(room.turn(Class::WarmUp, 1))).collect();
        assert!(queue.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        assert!(room.admits(Class::Background).is_ok());
        queue.extend((0..70).map(|_| Box::pin(room.turn(Class::WarmUp, 1))));
        assert!(queue.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        let retry = room.admits(Class::Background).unwrap_err();
        assert!(retry > Duration::from_millis(RETRY_MS) && retry <= Duration::from_millis(RETRY_MS_MAX));
        assert!(room.admits(Class::WarmUp).is_err());
        assert!(room.admits(Class::Fill).is_ok() && room.admits(Class::Foreground).is_ok());
        drop(queue);
        assert!(room.admits(Class::Background).is_ok(), "who gives up waits no more");
    }
}
