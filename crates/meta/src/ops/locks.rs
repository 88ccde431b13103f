//! Locks of files across clients: flock(2) and fcntl(2) (spec section 17).

use async_trait::async_trait;
use shoal_format::{Ino, LockMode, RangeLock};

use super::change::{Change, ChangeContext};
use super::ranges;
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{LockHolder, Records, Txn};
use crate::error::MetaError;

/// A lock that one of a client's owners asks for, in place of what it holds there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Of the whole file, as by flock(2).
    Whole {
        /// Who asks; any number that the client tells its owners apart by.
        owner: u64,
        /// Whether others may hold it too.
        mode: LockMode,
    },
    /// Of a range, as by fcntl(2). Nothing to those of whole files.
    Range {
        /// Who asks.
        owner: u64,
        /// The range, and whether others may hold it too.
        lock: RangeLock,
    },
}

/// What an owner gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlock {
    /// Its lock of the whole file.
    Whole {
        /// Who gives it back.
        owner: u64,
    },
    /// Its locks of the bytes from `start` to `end`, inclusive.
    Range {
        /// Who gives them back.
        owner: u64,
        /// First byte.
        start: u64,
        /// Last byte.
        end: u64,
    },
}

impl Lock {
    /// What others hold is not in the way. `flocks` and `plocks` are asked for only if they decide.
    fn is_free(&self, sid: u64, flocks: &[(LockHolder, LockMode)], plocks: &[(LockHolder, Vec<RangeLock>)]) -> bool {
        match self {
            Lock::Whole { owner, mode } => {
                let me = LockHolder { sid, owner: *owner };
                let alone = |held: LockMode| *mode == LockMode::Exclusive || held == LockMode::Exclusive;
                !flocks.iter().any(|(holder, held)| *holder != me && alone(*held))
            }
            Lock::Range { owner, lock } => first_conflict(plocks, LockHolder { sid, owner: *owner }, lock).is_none(),
        }
    }
}

/// The first lock of another holder that is in the way of `lock`.
fn first_conflict<'a>(
    plocks: &'a [(LockHolder, Vec<RangeLock>)],
    me: LockHolder,
    lock: &RangeLock,
) -> Option<(LockHolder, &'a RangeLock)> {
    let others = plocks.iter().filter(|(holder, _)| *holder != me);
    let all = others.flat_map(|(holder, held)| held.iter().map(|held| (*holder, held)));
    all.filter(|(_, held)| ranges::conflict(held, lock)).min_by_key(|(_, held)| held.start)
}

fn own<T: Clone + Default>(held: &[(LockHolder, T)], me: LockHolder) -> T {
    held.iter().find(|(holder, _)| *holder == me).map(|(_, held)| held.clone()).unwrap_or_default()
}

/// Takes locks of one file, all or none. False if others hold what is in the way.
pub(crate) struct TakeLocks<'a> {
    pub(crate) sid: u64,
    pub(crate) ino: Ino,
    pub(crate) locks: &'a [Lock],
}

#[async_trait]
impl Change for TakeLocks<'_> {
    type Output = bool;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(bool, Effects), MetaError> {
        let (sid, ino) = (self.sid, self.ino);
        let mut ranges = Vec::new();
        for lock in self.locks {
            let free = match lock {
                Lock::Whole { .. } => lock.is_free(sid, &txn.flocks_locked(ino).await?, &[]),
                Lock::Range { owner, lock: new } => {
                    let held = txn.plocks_locked(ino).await?;
                    let me = LockHolder { sid, owner: *owner };
                    ranges.push((me, ranges::with(&own(&held, me), *new)));
                    lock.is_free(sid, &[], &held)
                }
            };
            if !free {
                return Ok((false, Effects::default()));
            }
        }
        // After the locks of its records: it does not vanish meanwhile.
        txn.attr(ino).await?.ok_or_else(|| MetaError::no_inode(ino))?;
        for lock in self.locks {
            if let Lock::Whole { owner, mode } = lock {
                txn.put_flock(ino, LockHolder { sid, owner: *owner }, Some(*mode)).await?;
            }
        }
        for (me, held) in ranges {
            txn.put_plocks(ino, me, &held).await?;
        }
        for lock in self.locks {
            context.log(txn, || taken(ino, lock)).await?;
        }
        Ok((true, Effects::default()))
    }
}

/// The log entry of a lock that was taken.
fn taken(ino: Ino, lock: &Lock) -> LogEntry {
    let letter = |mode: LockMode| match mode {
        LockMode::Shared => 'R',
        LockMode::Exclusive => 'W',
    };
    match lock {
        Lock::Whole { owner, mode } => LogEntry::new("FLOCK").with(ino).with(owner).with(letter(*mode)),
        Lock::Range { owner, lock: RangeLock { mode, pid, start, end } } => {
            let entry = LogEntry::new("SETLK").with(ino).with(owner).with(letter(*mode));
            entry.with(start).with(end).with(pid)
        }
    }
}

/// Gives a lock back; none is fine too. True if the owner has no lock of the kind left on the file.
pub(crate) struct DropLock {
    pub(crate) sid: u64,
    pub(crate) ino: Ino,
    pub(crate) unlock: Unlock,
}

#[async_trait]
impl Change for DropLock {
    type Output = bool;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(bool, Effects), MetaError> {
        let (sid, ino) = (self.sid, self.ino);
        match self.unlock {
            Unlock::Whole { owner } => {
                txn.put_flock(ino, LockHolder { sid, owner }, None).await?;
                context.log(txn, || LogEntry::new("FLOCK").with(ino).with(owner).with('U')).await?;
                Ok((true, Effects::default()))
            }
            Unlock::Range { owner, start, end } => {
                let me = LockHolder { sid, owner };
                let held = own(&txn.plocks_locked(ino).await?, me);
                let left = ranges::without(&held, start, end);
                if left != held {
                    txn.put_plocks(ino, me, &left).await?;
                    let entry = || LogEntry::new("SETLK").with(ino).with(owner).with('U').with(start).with(end).with(0);
                    context.log(txn, entry).await?;
                }
                Ok((left.is_empty(), Effects::default()))
            }
        }
    }
}

/// True if nobody holds what is in the way of `locks`, as far as can be seen without a transaction.
pub(crate) async fn look_free(records: &dyn Records, sid: u64, ino: Ino, locks: &[Lock]) -> Result<bool, MetaError> {
    for lock in locks {
        let free = match lock {
            Lock::Whole { .. } => lock.is_free(sid, &records.flocks(ino).await?, &[]),
            Lock::Range { .. } => lock.is_free(sid, &[], &records.plocks(ino).await?),
        };
        if !free {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first lock that is in the way of `lock` for an owner of client `sid`. Its process is only known where it is this client's,
/// and 0 otherwise.
pub(crate) async fn range_in_the_way(
    records: &dyn Records,
    ino: Ino,
    me: LockHolder,
    lock: &RangeLock,
) -> Result<Option<RangeLock>, MetaError> {
    let held = records.plocks(ino).await?;
    let found = first_conflict(&held, me, lock);
    Ok(found.map(|(holder, held)| RangeLock { pid: if holder.sid == me.sid { held.pid } else { 0 }, ..*held }))
}
