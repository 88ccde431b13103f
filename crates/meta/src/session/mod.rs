//! A client that reads and writes one volume (spec sections 12, 13 and 26).
//!
//! Holds what such a client keeps: its record among the volume's sessions, the setting as last read, ids to give out, which
//! inodes are open, use that is still to be written. Its operations are in the files of their areas and delegate to `ops`.

mod accounts;
mod beat;
mod cleanup;
mod cloning;
mod data;
mod deletion;
mod ids;
mod jobs;
mod locks;
mod namespace;
mod opens;
mod parallel;
mod removal;
mod restore;
mod tree_removal;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use shoal_format::{ClientRole, Ino, SessionInfo, Settings, Time};
use shoal_runtime::clock;
use tokio::task::JoinHandle;

use self::accounts::Accounts;
pub use self::beat::HEARTBEAT;
use self::ids::IdPool;
pub use self::locks::LockWait;
use self::locks::Locks;
use self::opens::Opens;
use self::removal::Removed;
use crate::changelog::LogWriter;
use crate::engine::{Accounting, Engine};
use crate::error::MetaError;
use crate::meta::Meta;
use crate::ops::{AclRules, Change, ChangeContext, DIR_TIME_SLACK, KnownDirs, Settled};
use crate::record::IdKind;
use crate::retry::transact;

pub use self::cloning::Cloned;
pub use self::restore::{RestoreTo, Restoring};
pub use self::tree_removal::{TrashUse, TreeRemoval};

/// Inodes taken at once, as real clients do.
const INODE_BATCH: u64 = 1024;
/// Slice ids taken at once, as real clients do.
const SLICE_BATCH: u64 = 4096;

/// A read-write client of a volume. Cheap to clone; the clones are one client. End it with [`Session::close`]: one that is only
/// dropped looks like a client that died, until others clean up behind it.
///
/// Every method that changes something runs in one transaction, repeated while other writers are in its way (at most 30
/// seconds, then `Unavailable`). Dropped before it returns, it may or may not have been committed, but never in part.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meta: Meta,
    sid: u64,
    /// What it says about itself, as JSON.
    info: Bytes,
    heartbeat: Duration,
    standing: RwLock<Standing>,
    inodes: IdPool,
    slices: IdPool,
    opens: Opens,
    accounts: Mutex<Accounts>,
    /// Held while use is written.
    flushing: tokio::sync::Mutex<()>,
    known: KnownDirs,
    log: Arc<LogWriter>,
    removed: Removed,
    locks: Locks,
    acls: Arc<AclRules>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the last look at the volume said.
#[derive(Debug)]
struct Standing {
    settings: Arc<Settings>,
    /// Why nothing may be changed any more: the volume is no longer the one that was opened.
    lost: Option<String>,
    /// How young a directory's times may be to stay as they are when an entry comes or goes.
    dir_time_slack: Duration,
}

impl Session {
    /// Joins the volume of `meta` as the client `info` describes, and keeps its record fresh on the current tokio runtime, every
    /// `heartbeat`: after five without, others take the client for dead. [`HEARTBEAT`] is that of real clients.
    ///
    /// Errors: `Denied` for a volume that obliges writers to what this version does not maintain, or a database open for reading.
    pub async fn open(meta: Meta, info: SessionInfo, heartbeat: Duration) -> Result<Session, MetaError> {
        let settings = meta.settings().await?;
        settings.check_client_as(ClientRole::Writer)?;
        let info = Bytes::from(info.at(now()).to_json());
        let engine = meta.engine();
        let accounts = Accounts::load(engine, &settings).await?;
        let log: Arc<LogWriter> = Arc::default();
        let join = beat::Join { info: info.clone(), heartbeat, settings: &settings, log: &log, now: now() };
        let sid = transact(engine, &join).await?;
        let session = Session(Arc::new(Inner {
            sid,
            info,
            heartbeat,
            standing: RwLock::new(Standing {
                settings: Arc::new(settings),
                lost: None,
                dir_time_slack: DIR_TIME_SLACK,
            }),
            inodes: IdPool::new(IdKind::Inode, INODE_BATCH),
            slices: IdPool::new(IdKind::Slice, SLICE_BATCH),
            opens: Opens::default(),
            accounts: Mutex::new(accounts),
            flushing: tokio::sync::Mutex::default(),
            known: KnownDirs::default(),
            log,
            removed: Removed::default(),
            locks: Locks::default(),
            acls: Arc::default(),
            tasks: Mutex::default(),
            meta,
        }));
        session.start();
        Ok(session)
    }

    /// Ends the client in order: what it summed up is written and its record is gone. Later changes are refused.
    pub async fn close(&self) -> Result<(), MetaError> {
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in tasks {
            task.abort();
            // Aborted is how it ends.
            let _ = task.await;
        }
        let released = self.let_go_of_all().await;
        self.0.standing.write().lost.get_or_insert_with(|| "the session has ended".to_owned());
        let flushed = self.flush_accounts().await;
        // While it holds removed files its record stays: by it, others find them.
        released?;
        let settings = self.settings();
        let leave = beat::Leave { sid: self.0.sid, settings: &settings, log: &self.0.log, now: now() };
        transact(self.engine(), &leave).await?;
        flushed
    }

    /// The volume as readers see it.
    pub fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// The session's number.
    pub fn sid(&self) -> u64 {
        self.0.sid
    }

    /// The setting as last read: at most a heartbeat old.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.standing.read().settings.clone()
    }

    /// From now on a directory whose times are younger than `slack` keeps them when an entry comes or goes, where many clients write
    /// at once and would wait for each other. 100 ms if nobody says otherwise, as with real clients; zero for times that are exact.
    pub fn set_dir_time_slack(&self, slack: Duration) {
        self.0.standing.write().dir_time_slack = slack;
    }

    /// An inode number for a new inode.
    pub(crate) async fn new_inode(&self) -> Result<Ino, MetaError> {
        self.0.inodes.next(self.engine(), &self.0.log).await.map(Ino)
    }

    /// An id for a slice that is about to be written.
    pub async fn new_slice(&self) -> Result<u64, MetaError> {
        self.0.slices.next(self.engine(), &self.0.log).await
    }

    /// Says that a handle of `ino` was opened: while it is, the inode outlives its last name.
    pub fn opened(&self, ino: Ino) {
        self.0.opens.opened(ino);
    }

    /// Says that a handle of `ino` was closed; true if it was the last.
    pub fn closed(&self, ino: Ino) -> bool {
        self.0.opens.closed(ino)
    }

    /// True while this client has a handle of `ino`.
    pub fn is_open(&self, ino: Ino) -> bool {
        self.0.opens.is_open(ino)
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.0.meta.engine()
    }

    /// Runs a change and takes its effects on use in.
    pub(crate) async fn change<C: Change>(&self, change: &C) -> Result<C::Output, MetaError> {
        let (settings, dir_time_slack) = {
            let standing = self.0.standing.read();
            if let Some(why) = &standing.lost {
                return Err(MetaError::Lost { at: self.engine().name().to_owned(), why: why.clone() });
            }
            (standing.settings.clone(), standing.dir_time_slack)
        };
        let accounting = self.engine().accounting();
        let log = self.0.log.clone();
        let context =
            ChangeContext { settings, now: now(), accounting, log, dir_time_slack, acls: self.0.acls.clone() };
        let limits = self.0.accounts.lock().limits();
        let settled = Settled { change, context, limits, known: &self.0.known };
        let (output, effects) = transact(self.engine(), &settled).await?;
        if accounting == Accounting::Batched {
            self.0.known.add(&effects);
            self.0.accounts.lock().add(&effects);
        }
        Ok(output)
    }
}

pub(crate) fn now() -> Time {
    Time::since_epoch(clock::unix_now())
}
