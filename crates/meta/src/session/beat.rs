//! The heartbeat: the session's record stays fresh, and the volume is looked at again (spec sections 13 and 26).

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{ClientRole, Settings, Time};
use shoal_runtime::{clock, rng, task};

use super::{Inner, Session, now};
use crate::changelog::{LogEntry, LogWriter};
use crate::engine::{Accounting, Serial, SessionRecord, Txn};
use crate::error::MetaError;
use crate::ops::Limits;
use crate::retry::{Operation, transact};

/// Between two heartbeats; that of real clients.
pub const HEARTBEAT: Duration = Duration::from_secs(12);
/// Heartbeats that may fail before others take the client for dead.
const MISSED_MAX: u32 = 5;
/// Between two writes of use that is summed up; that of real clients.
const FLUSH: Duration = Duration::from_secs(1);

/// Adds a session.
pub(super) struct Join<'a> {
    pub(super) info: Bytes,
    pub(super) heartbeat: Duration,
    pub(super) settings: &'a Settings,
    pub(super) log: &'a LogWriter,
    pub(super) now: Time,
}

#[async_trait]
impl Operation for Join<'_> {
    type Output = u64;

    async fn run(&self, txn: &dyn Txn) -> Result<u64, MetaError> {
        let sid = txn.take_serial(Serial::Session).await?;
        let record = record(sid, &self.info, self.heartbeat, self.now);
        txn.put_session(&record).await?;
        let counted = || LogEntry::new("INCR_COUNTER").bytes(b"nextSession").with(1);
        self.log.append(txn, self.settings, self.now, counted).await?;
        self.log.joined(sid);
        let entry = || LogEntry::new("NEWSESSION").with(sid).with(record.expire).bytes(&record.info);
        self.log.append(txn, self.settings, self.now, entry).await?;
        Ok(sid)
    }
}

/// Removes a session.
pub(super) struct Leave<'a> {
    pub(super) sid: u64,
    pub(super) settings: &'a Settings,
    pub(super) log: &'a LogWriter,
    pub(super) now: Time,
}

#[async_trait]
impl Operation for Leave<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        txn.delete_session(self.sid).await?;
        let entry = || LogEntry::new("CLEANSESSION").with(self.sid);
        self.log.append(txn, self.settings, self.now, entry).await
    }
}

/// Writes a session's record, even where others took it away.
struct Beat {
    record: SessionRecord,
}

#[async_trait]
impl Operation for Beat {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        txn.put_session(&self.record).await
    }
}

fn record(sid: u64, info: &Bytes, heartbeat: Duration, now: Time) -> SessionRecord {
    let life = heartbeat.saturating_mul(MISSED_MAX);
    SessionRecord { sid, expire: now.secs.saturating_add(life.as_secs() as i64), info: info.clone() }
}

impl Session {
    /// Starts what runs until the session ends.
    pub(super) fn start(&self) {
        let mut tasks = self.0.tasks.lock();
        tasks.push(task::spawn("meta-heartbeat", repeat(Arc::downgrade(&self.0), self.0.heartbeat, Work::Beat)));
        if self.engine().accounting() == Accounting::Batched {
            tasks.push(task::spawn("meta-accounts", repeat(Arc::downgrade(&self.0), FLUSH, Work::Flush)));
        }
    }

    /// One heartbeat. A volume that is no longer the one that was opened, or asks for more than this version maintains,
    /// ends all changes.
    pub(crate) async fn beat(&self) -> Result<(), MetaError> {
        let operation = Beat { record: record(self.0.sid, &self.0.info, self.0.heartbeat, now()) };
        let settings = self.meta().settings().await;
        let lost = match &settings {
            Ok(new) => why_lost(&self.settings(), new),
            Err(error @ (MetaError::NoVolume { .. } | MetaError::Format(_))) => Some(error.to_string()),
            Err(_) => None,
        };
        if let Some(why) = lost {
            tracing::error!(sid = self.0.sid, why, "the volume cannot be changed any more by this client");
            self.0.standing.write().lost = Some(why);
            return Ok(());
        }
        let settings = settings?;
        let limits = Limits::load(self.engine().records(), &settings).await?;
        self.0.accounts.lock().renew(limits);
        {
            let mut standing = self.0.standing.write();
            (standing.settings, standing.lost) = (Arc::new(settings), None);
        }
        transact(self.engine(), &operation).await
    }
}

fn why_lost(old: &Settings, new: &Settings) -> Option<String> {
    if old.uuid != new.uuid {
        return Some(format!("it holds another volume, `{}`", new.name));
    }
    new.check_client_as(ClientRole::Writer).err().map(|error| error.to_string())
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Beat,
    Flush,
}

/// Does `work` again and again until the session is gone. What fails is done again next time.
async fn repeat(session: Weak<Inner>, period: Duration, work: Work) {
    loop {
        clock::sleep(rng::jitter(period, 0.1)).await;
        let Some(session) = session.upgrade().map(Session) else { return };
        let done = match work {
            Work::Beat => session.beat().await,
            Work::Flush => session.flush_accounts().await,
        };
        if let Err(error) = done {
            tracing::warn!(sid = session.0.sid, ?work, %error, "will be tried again");
        }
    }
}
