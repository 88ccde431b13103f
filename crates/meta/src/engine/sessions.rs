//! Records of clients: who uses the volume, which removed files they hold open, who runs a periodic job (spec sections 12 and 13).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::Ino;

use crate::error::MetaError;

/// A client that reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its number.
    pub sid: u64,
    /// When others may take it for dead, in seconds since 1970.
    pub expire: i64,
    /// What it says about itself, as JSON.
    pub info: Bytes,
}

/// Numbers that are handed out one by one, from 1; never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Serial {
    /// Of a session.
    Session,
    /// Of an hourly trash directory: its inode lies this far behind the trash root.
    TrashDir,
}

/// Periodic work that one client does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    /// Removing what dead clients left.
    StaleSessions,
    /// Deleting the data of removed files.
    DeletedFiles,
    /// Deleting slices that nothing names.
    Slices,
    /// Emptying the trash of what is too old.
    Trash,
    /// Removing entries of the change log that are too old or too many.
    ChangeLog,
}

impl Job {
    /// Every job.
    pub const ALL: [Job; 5] = [Job::StaleSessions, Job::DeletedFiles, Job::Slices, Job::Trash, Job::ChangeLog];

    /// What the format calls the counter that says when it was last begun.
    pub fn counter_name(self) -> &'static str {
        match self {
            Job::StaleSessions => "lastCleanupSessions",
            Job::DeletedFiles => "lastCleanupFiles",
            Job::Slices => "nextCleanupSlices",
            Job::Trash => "lastCleanupTrash",
            Job::ChangeLog => "lastCleanupChangelog",
        }
    }
}

/// Reads records of sessions, as [`Records`](crate::Records) reads the others.
#[async_trait]
pub trait SessionRecords: Send + Sync {
    /// Every session, by number.
    async fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError>;
    /// Up to `limit` sessions that expired before `before` (seconds since 1970), by number.
    async fn expired_sessions(&self, before: i64, limit: usize) -> Result<Vec<u64>, MetaError>;
    /// Removed files that a session holds open, by inode.
    async fn sustained(&self, sid: u64) -> Result<Vec<Ino>, MetaError>;
}

/// Writes records of sessions.
#[async_trait]
pub trait SessionTxn: Send + Sync {
    /// The next number of a kind.
    async fn take_serial(&self, serial: Serial) -> Result<u64, MetaError>;
    /// Sets when a job was last begun to `now` (seconds since 1970) if that was at least `period` seconds ago, or never; true if so.
    async fn elect(&self, job: Job, now: i64, period: i64) -> Result<bool, MetaError>;
    /// Writes a session, new or not.
    async fn put_session(&self, session: &SessionRecord) -> Result<(), MetaError>;
    /// Removes a session and every lock it holds.
    async fn delete_session(&self, sid: u64) -> Result<(), MetaError>;
    /// Removed files that a session holds open from now on. One it holds already stays.
    async fn insert_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError>;
    /// Removed files that a session no longer holds open.
    async fn delete_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError>;
}
