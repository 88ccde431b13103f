//! Locks that processes of this client hold and wait for (spec section 17).
//!
//! Nobody tells a client that another one gave a lock back: who waits asks again, ever more seldom. What this client itself gives
//! back wakes those of its own that wait for the same file at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_format::{Ino, RangeLock};
use shoal_runtime::{clock, rng};
use tokio::sync::Notify;

use super::Session;
use crate::engine::LockHolder;
use crate::error::{MetaError, Refusal};
use crate::ops::{DropLock, Lock, TakeLocks, Unlock, look_free, range_in_the_way};

/// First pause between two looks at a lock that others hold.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest pause of one that waits alone. Several that wait for a file look as often together: the volume's database has more to do
/// than to answer them.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Longest pause however many wait.
const PAUSE_CROWD_MAX: Duration = Duration::from_secs(1);
/// How soon one that gives up is heard.
const TICK: Duration = Duration::from_millis(20);

/// What becomes of a lock that others hold.
#[derive(Clone, Copy)]
pub enum LockWait<'a> {
    /// It is refused.
    No,
    /// It is waited for, until this says true.
    Until(&'a (dyn Fn() -> bool + Send + Sync)),
}

impl LockWait<'_> {
    fn given_up(&self) -> bool {
        match self {
            LockWait::No => true,
            LockWait::Until(over) => over(),
        }
    }
}

/// One owner's locks of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owned {
    Whole(u64),
    Ranges(u64),
}

impl From<&Lock> for Owned {
    fn from(lock: &Lock) -> Owned {
        match lock {
            Lock::Whole { owner, .. } => Owned::Whole(*owner),
            Lock::Range { owner, .. } => Owned::Ranges(*owner),
        }
    }
}

impl From<Unlock> for Owned {
    fn from(unlock: Unlock) -> Owned {
        match unlock {
            Unlock::Whole { owner } => Owned::Whole(owner),
            Unlock::Range { owner, .. } => Owned::Ranges(owner),
        }
    }
}

/// What a session knows of its locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// What it may hold: a change whose answer was lost counts.
    held: Mutex<HashMap<Ino, HashSet<Owned>>>,
    /// Files that somebody waits for, and how many do.
    waiting: Mutex<HashMap<Ino, (u32, Arc<Notify>)>>,
}

impl Locks {
    fn holds(&self, ino: Ino, owned: Owned) -> bool {
        self.held.lock().get(&ino).is_some_and(|held| held.contains(&owned))
    }

    /// Notes what may be held from now on; gives what was not before.
    fn note(&self, ino: Ino, locks: &[Lock]) -> Vec<Owned> {
        let mut held = self.held.lock();
        let held = held.entry(ino).or_default();
        locks.iter().map(Owned::from).filter(|owned| held.insert(*owned)).collect()
    }

    fn forget(&self, ino: Ino, gone: &[Owned]) {
        let mut all = self.held.lock();
        if let Some(held) = all.get_mut(&ino) {
            held.retain(|owned| !gone.contains(owned));
            if held.is_empty() {
                all.remove(&ino);
            }
        }
    }

    /// Something was given back: whoever waits for it looks again.
    fn wake(&self, ino: Ino) {
        if let Some((_, waiters)) = self.waiting.lock().get(&ino) {
            waiters.notify_waiters();
        }
    }

    fn wait(&self, ino: Ino) -> Waiter<'_> {
        let mut waiting = self.waiting.lock();
        let (count, notify) = waiting.entry(ino).or_default();
        *count += 1;
        Waiter { locks: self, ino, released: Arc::clone(notify) }
    }
}

/// Somebody waits for locks of a file, until dropped.
struct Waiter<'a> {
    locks: &'a Locks,
    ino: Ino,
    released: Arc<Notify>,
}

impl Waiter<'_> {
    /// Longest pause of each of those that wait now.
    fn pause_max(&self) -> Duration {
        let waiting = self.locks.waiting.lock();
        let count = waiting.get(&self.ino).map_or(1, |(count, _)| *count);
        PAUSE_MAX.saturating_mul(count).min(PAUSE_CROWD_MAX)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.locks.waiting.lock();
        if let Some((count, _)) = waiting.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.ino);
            }
        }
    }
}

impl Session {
    /// Takes `locks` of file `ino`, all or none. Those that an owner of this client holds already are replaced.
    ///
    /// While it waits it holds no shared lock of the whole file that it wants to have alone: two that do would wait for ever.
    /// Errors: `NotFound`; `Conflict` ([`Refusal::Locked`]) if others hold what is in the way and nobody waits; `Cancelled` once
    /// waiting is given up. Not to be dropped before it returns: a lock could be left that nobody knows of.
    pub async fn lock(&self, ino: Ino, locks: &[Lock], wait: LockWait<'_>) -> Result<(), MetaError> {
        if self.take(ino, locks).await? {
            return Ok(());
        }
        if let LockWait::No = wait {
            return Err(MetaError::refused(Refusal::Locked, format!("inode {ino} is locked")));
        }
        for lock in locks {
            if let Lock::Whole { owner, .. } = lock {
                self.unlock(ino, Unlock::Whole { owner: *owner }).await?;
            }
        }
        let waiter = self.0.locks.wait(ino);
        let mut pause = PAUSE_MIN;
        loop {
            let mut released = std::pin::pin!(waiter.released.notified());
            released.as_mut().enable();
            let free = self.look_free(ino, locks).await?;
            match if free { self.take(ino, locks).await } else { Ok(false) } {
                Ok(true) => {
                    // Others may share it.
                    self.0.locks.wake(ino);
                    return Ok(());
                }
                // A busy database is one more reason to wait.
                Ok(false) | Err(MetaError::Contended { .. }) => {}
                Err(error) => return Err(error),
            }
            let until = clock::now() + rng::jitter(pause, 0.3);
            while clock::now() < until {
                if wait.given_up() {
                    return Err(MetaError::refused(
                        Refusal::Interrupted,
                        format!("the wait for inode {ino} was ended"),
                    ));
                }
                let left = until.saturating_duration_since(clock::now()).min(TICK);
                if clock::timeout(left, released.as_mut()).await.is_ok() {
                    break;
                }
            }
            pause = (pause * 2).min(waiter.pause_max());
        }
    }

    /// Gives a lock of file `ino` back. Where this client holds none the volume is not asked.
    pub async fn unlock(&self, ino: Ino, unlock: Unlock) -> Result<(), MetaError> {
        let owned = Owned::from(unlock);
        if !self.0.locks.holds(ino, owned) {
            return Ok(());
        }
        if self.change(&DropLock { sid: self.sid(), ino, unlock }).await? {
            self.0.locks.forget(ino, &[owned]);
        }
        self.0.locks.wake(ino);
        Ok(())
    }

    /// True if this client may hold the lock, or a part of it.
    pub fn may_hold(&self, ino: Ino, unlock: Unlock) -> bool {
        self.0.locks.holds(ino, Owned::from(unlock))
    }

    /// The first lock of a range that keeps `owner` from having `lock`; its process is 0 where it is another client's.
    pub async fn range_in_the_way(
        &self,
        ino: Ino,
        owner: u64,
        lock: &RangeLock,
    ) -> Result<Option<RangeLock>, MetaError> {
        range_in_the_way(self.engine().records(), ino, LockHolder { sid: self.sid(), owner }, lock).await
    }

    async fn take(&self, ino: Ino, locks: &[Lock]) -> Result<bool, MetaError> {
        let new = self.0.locks.note(ino, locks);
        let taken = self.change(&TakeLocks { sid: self.sid(), ino, locks }).await;
        match taken {
            Ok(true) => {}
            Ok(false) | Err(MetaError::NoInode { .. } | MetaError::Contended { .. }) => self.0.locks.forget(ino, &new),
            // The change may have been made.
            Err(_) => {}
        }
        taken
    }

    async fn look_free(&self, ino: Ino, locks: &[Lock]) -> Result<bool, MetaError> {
        look_free(self.engine().records(), self.sid(), ino, locks).await
    }
}
