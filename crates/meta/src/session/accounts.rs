//! Use that is summed up before it is written, and the limits it is checked against (spec sections 12 and 16).

use std::sync::Arc;

use shoal_format::Settings;
use shoal_runtime::task;
use tokio::task::JoinError;

use super::Session;
use crate::effects::Effects;
use crate::engine::Engine;
use crate::error::MetaError;
use crate::ops::{Limits, StatFs, WriteEffects};
use crate::retry::transact;

/// A client's view of use.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// As last read, with what this client has done since.
    limits: Arc<Limits>,
    /// What is still to be written.
    pending: Effects,
}

impl Accounts {
    pub(super) async fn load(engine: &dyn Engine, settings: &Settings) -> Result<Accounts, MetaError> {
        let limits = Arc::new(Limits::load(engine.records(), settings).await?);
        Ok(Accounts { limits, pending: Effects::default() })
    }

    pub(super) fn limits(&self) -> Arc<Limits> {
        self.limits.clone()
    }

    /// Takes a settled change in.
    pub(super) fn add(&mut self, effects: &Effects) {
        if !effects.is_empty() {
            self.pending.merge(effects);
            Arc::make_mut(&mut self.limits).add(effects);
        }
    }

    /// Replaces what was read by something newer.
    pub(super) fn renew(&mut self, mut limits: Limits) {
        limits.add(&self.pending);
        self.limits = Arc::new(limits);
    }
}

impl Session {
    /// How full the volume is as far as this client knows without asking: as of its last heartbeat, with what it has done since where
    /// it sums that up itself.
    pub fn known_statfs(&self) -> StatFs {
        let limits = self.0.accounts.lock().limits();
        StatFs::of(&self.settings(), limits.used_space, limits.used_inodes)
    }

    /// Writes use that is still to be written. On failure it stays to be written.
    ///
    /// A flush that has begun ends, whatever becomes of who asked for it: given up half-way, nobody would know what is written. Two
    /// take turns, so that the later one waits for all of it.
    pub async fn flush_accounts(&self) -> Result<(), MetaError> {
        let session = self.clone();
        let flush = task::spawn("meta-flush", async move { session.flush_once().await });
        let lost = |error: JoinError| MetaError::Lost { at: self.engine().name().to_owned(), why: error.to_string() };
        flush.await.map_err(lost)?
    }

    async fn flush_once(&self) -> Result<(), MetaError> {
        let _turn = self.0.flushing.lock().await;
        let effects = std::mem::take(&mut self.0.accounts.lock().pending);
        if effects.is_empty() {
            return Ok(());
        }
        let settings = self.settings();
        let written = transact(self.engine(), &WriteEffects { settings: &settings, effects: &effects }).await;
        if written.is_err() {
            self.0.accounts.lock().pending.merge(&effects);
        }
        written
    }
}
