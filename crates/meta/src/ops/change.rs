//! A change by a client that reads and writes: one transaction, settled in it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_format::{Attr, Ino, Settings, Time};

use super::acl_rules::AclRules;
use super::settle::{Limits, settle, write_effects};
use super::usage::KnownDirs;
use crate::changelog::{LogEntry, LogWriter};
use crate::effects::Effects;
use crate::engine::{Accounting, Txn};
use crate::error::MetaError;
use crate::record::DirTouch;
use crate::retry::Operation;

/// Where many clients write at once, a directory whose time of change is not older than this keeps it when an entry comes or
/// goes, as with real clients: its row would make them wait for each other.
pub(crate) const DIR_TIME_SLACK: Duration = Duration::from_millis(100);

/// What every change of one session is given.
#[derive(Debug, Clone)]
pub(crate) struct ChangeContext {
    /// The setting as the session knows it.
    pub(crate) settings: Arc<Settings>,
    /// When the change happens.
    pub(crate) now: Time,
    /// When use is written.
    pub(crate) accounting: Accounting,
    /// Where changes are logged, if the volume wants that.
    pub(crate) log: Arc<LogWriter>,
    /// [`DIR_TIME_SLACK`] unless the session asked for another.
    pub(crate) dir_time_slack: Duration,
    /// The volume's ACL rules.
    pub(crate) acls: Arc<AclRules>,
}

impl ChangeContext {
    /// Says in the volume's change log, if it has one, what the change did. Every change does, in its transaction.
    pub(crate) async fn log(&self, txn: &dyn Txn, entry: impl FnOnce() -> LogEntry + Send) -> Result<(), MetaError> {
        self.log.append(txn, &self.settings, self.now, entry).await
    }

    /// The change of directory `ino`, whose attributes were read, by an entry that came or went; `nlink` sub-directories came with
    /// it. `None` if its times are fresh enough.
    pub(crate) fn touch(&self, ino: Ino, attr: &Attr, nlink: i32) -> Option<DirTouch> {
        let nanos = |time: Time| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        let age = nanos(self.now) - nanos(attr.mtime);
        let fresh = (0..self.dir_time_slack.as_nanos() as i128).contains(&age);
        if self.accounting == Accounting::Batched && nlink == 0 && fresh {
            return None;
        }
        Some(DirTouch { ino, nlink, mtime: self.now, ctime: self.now })
    }
}

/// What a session can do to the volume. Runs in one transaction, possibly several times.
#[async_trait]
pub(crate) trait Change: Send + Sync {
    /// What it gives once committed.
    type Output: Send;
    /// Reads and writes through `txn`; returns what it gives and what it did to use. Must leave no trace outside `txn`.
    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Self::Output, Effects), MetaError>;
}

/// A change with its accounting. What it gives holds the effects that are still to be written.
pub(crate) struct Settled<'a, C> {
    pub(crate) change: &'a C,
    pub(crate) context: ChangeContext,
    /// What limits are checked against where use is batched.
    pub(crate) limits: Arc<Limits>,
    /// Directories whose use is recorded, where use is batched.
    pub(crate) known: &'a KnownDirs,
}

#[async_trait]
impl<C: Change> Operation for Settled<'_, C> {
    type Output = (C::Output, Effects);

    async fn run(&self, txn: &dyn Txn) -> Result<(C::Output, Effects), MetaError> {
        let (output, mut effects) = self.change.run(txn, &self.context).await?;
        if effects.is_empty() {
            return Ok((output, effects));
        }
        let settings = &self.context.settings;
        match self.context.accounting {
            Accounting::InTransaction => {
                let limits = Limits::load_for(txn, settings, &effects).await?;
                settle(txn, settings, &limits, &mut effects).await?;
                write_effects(txn, settings, &effects).await?;
                Ok((output, Effects::default()))
            }
            Accounting::Batched => {
                settle(txn, settings, &self.limits, &mut effects).await?;
                if settings.dir_stats {
                    self.known.record_others(txn, &mut effects).await?;
                }
                Ok((output, effects))
            }
        }
    }
}

/// Writes what a session has summed up.
pub(crate) struct WriteEffects<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) effects: &'a Effects,
}

#[async_trait]
impl Operation for WriteEffects<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        write_effects(txn, self.settings, self.effects).await
    }
}

#[cfg(test)]
mod tests {
    use shoal_format::FileType;

    use super::*;

    #[test]
    fn a_fresh_directory_keeps_its_time_only_where_writers_would_wait() {
        let now = Time { secs: 100, nanos: 0 };
        let dir = |mtime| Attr { mtime, ..Attr::new(FileType::Directory, 0o755, Ino::ROOT, now) };
        let touched = |accounting, mtime, nlink| {
            let context = ChangeContext {
                settings: Arc::new(Settings::new("v", "u")),
                now,
                accounting,
                log: Arc::default(),
                dir_time_slack: DIR_TIME_SLACK,
                acls: Arc::default(),
            };
            context.touch(Ino(5), &dir(mtime), nlink).is_some()
        };
        let (fresh, old) = (Time { secs: 99, nanos: 900_000_001 }, Time { secs: 99, nanos: 900_000_000 });
        let ahead = Time { secs: 101, nanos: 0 };
        assert!(!touched(Accounting::Batched, fresh, 0));
        assert!(touched(Accounting::Batched, fresh, -1), "a link count is never left out");
        assert!(touched(Accounting::Batched, old, 0) && touched(Accounting::Batched, ahead, 0));
        assert!(touched(Accounting::InTransaction, fresh, 0));
    }
}
