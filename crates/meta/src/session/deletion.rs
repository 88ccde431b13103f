//! Deleting the data of removed files: objects first, then their records (spec sections 11 and 14).

use std::sync::{Arc, Weak};

use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc::Receiver;

use super::{Inner, Session};
use crate::engine::DeletedFile;
use crate::error::MetaError;
use crate::ops::{DropDelayed, DropFileData, FindDead, ForgetSlices};
use crate::record::SliceRef;
use crate::slices::SliceStore;

/// Files whose data is deleted at once; as many as with real clients.
const FILES_AT_ONCE: usize = 10;
/// Slices deleted at once, of each file.
const SLICES_AT_ONCE: usize = 4;
/// Slices asked for at once where all dead ones are looked for.
const DEAD_PAGE: usize = 1000;

/// Deletes what comes through `queue` until the session is gone.
pub(super) async fn delete_queued(session: Weak<Inner>, queue: Receiver<DeletedFile>) {
    let files = futures::stream::unfold(queue, |mut queue| async { queue.recv().await.map(|file| (file, queue)) });
    files.for_each_concurrent(FILES_AT_ONCE, |file| delete_one(session.clone(), file).boxed()).await;
}

async fn delete_one(session: Weak<Inner>, file: DeletedFile) {
    let Some(session) = session.upgrade().map(Session) else { return };
    if let Err(error) = session.delete_file_data(file).await {
        tracing::warn!(ino = file.ino.0, %error, "the data of a removed file is deleted later");
    }
}

async fn delete_slice(store: Arc<dyn SliceStore>, slice: SliceRef) -> Result<SliceRef, MetaError> {
    store.delete_slice(slice.id, slice.size).await.map(|()| slice)
}

impl Session {
    /// Deletes the data of a removed file and the record of it. What is left after an error is deleted by a periodic job.
    ///
    /// `Invalid` for a session that does no background work.
    pub(crate) async fn delete_file_data(&self, file: DeletedFile) -> Result<(), MetaError> {
        loop {
            let dropped = self.change(&DropFileData { file }).await?;
            self.delete_slices(&dropped.dead).await?;
            if !dropped.more {
                return Ok(());
            }
        }
    }

    /// Deletes slices that waited for longer than the trash keeps; returns how many.
    pub(super) async fn delete_delayed(&self, before: i64) -> Result<usize, MetaError> {
        let mut count = 0;
        loop {
            let dropped = self.change(&DropDelayed { before }).await?;
            self.delete_slices(&dropped.dead).await?;
            count += dropped.dead.len();
            if !dropped.more {
                return Ok(count);
            }
        }
    }

    /// Deletes slices that nothing names, left by clients that died; returns how many.
    pub(super) async fn delete_dead_slices(&self) -> Result<usize, MetaError> {
        let mut count = 0;
        loop {
            let dead = self.change(&FindDead { limit: DEAD_PAGE }).await?;
            self.delete_slices(&dead).await?;
            count += dead.len();
            if dead.len() < DEAD_PAGE {
                return Ok(count);
            }
        }
    }

    /// Deletes the objects of slices, then their records: the other way round an object could be left that nobody finds.
    async fn delete_slices(&self, dead: &[SliceRef]) -> Result<(), MetaError> {
        if dead.is_empty() {
            return Ok(());
        }
        let store = self.slice_store()?;
        // After a loss of power no record may name what is deleted now, and what took its place must be there.
        store.sync().await?;
        self.meta().sync().await?;
        let deletions: Vec<_> = dead.iter().map(|slice| delete_slice(store.clone(), *slice)).collect();
        let outcomes = futures::stream::iter(deletions);
        let outcomes: Vec<Result<SliceRef, MetaError>> = outcomes.buffer_unordered(SLICES_AT_ONCE).collect().await;
        let (mut deleted, mut failed) = (Vec::new(), None);
        for outcome in outcomes {
            match outcome {
                Ok(slice) => deleted.push(slice),
                Err(error) => failed = Some(error),
            }
        }
        self.change(&ForgetSlices { slices: &deleted }).await?;
        failed.map_or(Ok(()), Err)
    }

    fn slice_store(&self) -> Result<Arc<dyn SliceStore>, MetaError> {
        let store = self.0.removed.slices.get().cloned();
        store.ok_or_else(|| MetaError::invalid("this session does no background work and can delete no blocks"))
    }
}
