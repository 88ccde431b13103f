//! Turns at the cache directories for reads of lower classes while programs read there too.
//!
//! A device answers in about the order asked: a read of a program waits for every byte that was asked for before it, and a warm-up
//! that keeps a device busy asks for tens of MiB ahead (measured: 41 ms instead of 1 ms for one in a hundred reads of 128 KiB). So as
//! long as programs read, lower classes have one part under way for each directory; a part is short, and one at a time is still most
//! of a device's speed. With no program reading they are free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shoal_runtime::clock;
use shoal_types::Class;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Programs read as long as their last read is no older than this.
const RECENT: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct DiskTurns {
    slots: Arc<Semaphore>,
    started: Instant,
    /// When a program last read, in ms since `started`, plus one; 0 for never.
    program: AtomicU64,
}

/// The right to one read, until it is dropped; without a permit nothing has to be waited for.
#[derive(Debug)]
pub(crate) struct DiskTurn {
    /// Held, not read.
    _slot: Option<OwnedSemaphorePermit>,
}

impl DiskTurns {
    /// For `dirs` directories.
    pub(crate) fn new(dirs: usize) -> DiskTurns {
        let slots = Arc::new(Semaphore::new(dirs.max(1)));
        DiskTurns { slots, started: clock::now(), program: AtomicU64::new(0) }
    }

    /// Waits until a read of `class` may begin. A program never waits. Hold it no longer than the read takes: others wait. Cancel-safe.
    pub(crate) async fn turn(&self, class: Class) -> DiskTurn {
        let now = clock::now().saturating_duration_since(self.started).as_millis() as u64 + 1;
        if class == Class::Foreground {
            self.program.store(now, Ordering::Relaxed);
            return DiskTurn { _slot: None };
        }
        let program = self.program.load(Ordering::Relaxed);
        if program == 0 || now - program.min(now) > RECENT.as_millis() as u64 {
            return DiskTurn { _slot: None };
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("this semaphore is never closed");
        DiskTurn { _slot: Some(slot) }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lower_classes_take_turns_only_while_programs_read() {
        let turns = DiskTurns::new(2);
        let free: Vec<DiskTurn> = (0..9).filter_map(|_| turns.turn(Class::WarmUp).now_or_never()).collect();
        assert_eq!(free.len(), 9, "no program reads");
        assert!(turns.turn(Class::Foreground).now_or_never().is_some());
        let mut held: Vec<DiskTurn> = (0..9).filter_map(|_| turns.turn(Class::WarmUp).now_or_never()).collect();
        assert_eq!(held.len(), 2, "one for each directory");
        assert!(turns.turn(Class::Foreground).now_or_never().is_some(), "a program never waits");
        held.pop();
        assert!(turns.turn(Class::Background).now_or_never().is_some());
        clock::sleep(2 * RECENT).await;
        let free: Vec<DiskTurn> = (0..9).filter_map(|_| turns.turn(Class::Fill).now_or_never()).collect();
        assert_eq!(free.len(), 9, "programs have stopped");
    }
}
