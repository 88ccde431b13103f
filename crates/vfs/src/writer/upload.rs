//! Storing one block: an id for its slice, encoding, the object store.

use std::sync::Arc;

use bytes::Bytes;
use shoal_cache::Block;
use shoal_meta::MetaError;
use shoal_object::ObjectError;
use shoal_runtime::{clock, task};
use shoal_stage::Staged;
use shoal_types::ErrorKind;

use super::{PATIENCE, pause};
use crate::inode::Inode;
use crate::vfs::Vfs;
use crate::write::{Failure, SliceId, Upload};
use crate::writers::Writers;

/// A block could not be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreFailure {
    #[error("no slice id could be had: {0}")]
    Id(#[from] MetaError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Encode(#[from] shoal_format::FormatError),
}

impl StoreFailure {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            StoreFailure::Id(error) => error.kind(),
            // What the store says of a bucket or a request, no program has to know of its file.
            StoreFailure::Object(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => {
                ErrorKind::Internal
            }
            StoreFailure::Object(error) => error.kind(),
            StoreFailure::Encode(error) => error.kind(),
        }
    }

    /// Whether another attempt may do better. Of an object store that is also one that refuses: keys get their rights, buckets are
    /// mounted again, and until then the bytes are here and nowhere else. A full one is told at once, for who can make room is told.
    fn may_pass(&self) -> bool {
        match self {
            StoreFailure::Id(error) => matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
            StoreFailure::Object(error) => match error.kind() {
                ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Denied
                | ErrorKind::NotFound
                | ErrorKind::Internal => true,
                ErrorKind::NoSpace
                | ErrorKind::Invalid
                | ErrorKind::Corrupt
                | ErrorKind::Conflict
                | ErrorKind::Cancelled => false,
            },
            StoreFailure::Encode(_) => false,
        }
    }
}

impl Vfs {
    /// Stores blocks in tasks of their own; each tells the file when it has ended.
    pub(super) fn start_uploads(&self, writers: &Arc<Writers>, inode: &Arc<Inode>, uploads: Vec<Upload>) {
        for upload in uploads {
            writers.upload_begins(upload.bytes.len() as u64);
            let (vfs, writers, inode) = (self.clone(), Arc::clone(writers), Arc::clone(inode));
            self.spawn("upload", async move { vfs.upload(&writers, &inode, upload).await });
        }
    }

    async fn upload(&self, writers: &Arc<Writers>, inode: &Arc<Inode>, upload: Upload) {
        let Upload { number, block, bytes, memory, id } = upload;
        let len = bytes.len() as u64;
        let stored = self.store_patiently(writers, inode.tier(), &id, block, bytes).await;
        match stored {
            Ok(()) => inode.writes.change(|state| state.pending.stored(number, block, clock::now())),
            Err(error) => {
                tracing::error!(ino = %inode.ino, %error, "a block that was written cannot be stored; its bytes are lost");
                self.lose(inode, Failure { kind: error.kind(), refusal: None, detail: error.to_string().into() });
                inode.writes.change(|state| state.pending.give_up(number));
            }
        }
        drop(memory);
        writers.upload_ended(len);
        inode.writes.wake.notify_one();
    }

    /// Tries until it is stored, refused as nothing changes, or [`PATIENCE`] is over.
    async fn store_patiently(
        &self,
        writers: &Writers,
        tier: u8,
        id: &SliceId,
        block: u32,
        bytes: Bytes,
    ) -> Result<(), StoreFailure> {
        let began = clock::now();
        let mut attempt = 0;
        loop {
            let error = match self.keep_block(writers, tier, id, block, &bytes).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            attempt += 1;
            if !error.may_pass() || clock::now().saturating_duration_since(began) >= PATIENCE {
                return Err(error);
            }
            self.metrics().upload_retries.add(1);
            tracing::warn!(block, attempt, %error, "a block could not be stored yet");
            clock::sleep(pause(attempt)).await;
        }
    }

    /// Stages block `index` of the slice of a file of `tier`, or stores it, once. What is staged is stored in the default tier.
    async fn keep_block(
        &self,
        writers: &Writers,
        tier: u8,
        id: &SliceId,
        index: u32,
        bytes: &Bytes,
    ) -> Result<(), StoreFailure> {
        if let Some(stage) = writers.stage.as_ref().filter(|_| tier == 0) {
            let id = *id.get_or_try_init(|| writers.session.new_slice()).await?;
            let block = self.block_names().block(id, index, bytes.len() as u32);
            if stage.put(block.key.object(), bytes.clone()).await == Staged::Yes {
                self.cache().keep(&block, bytes.clone());
                return Ok(());
            }
        }
        self.store_block(writers, tier, id, index, bytes).await
    }

    /// Stores block `index` of the slice of a file of `tier`, once.
    pub(super) async fn store_block(
        &self,
        writers: &Writers,
        tier: u8,
        id: &SliceId,
        index: u32,
        bytes: &Bytes,
    ) -> Result<(), StoreFailure> {
        let id = *id.get_or_try_init(|| writers.session.new_slice()).await?;
        let block = self.block_names().block(id, index, bytes.len() as u32);
        let _turn = writers.turns.acquire().await.expect("this semaphore is never closed");
        if block.codec.is_identity() {
            writers.tiers.of(tier).put(block.key.object(), bytes.clone()).await?;
        } else {
            let _room = writers.encoded.acquire(block.codec.max_stored_len(block.plain_len)).await;
            let encoded = self.encode(&block, bytes.clone()).await?;
            writers.tiers.of(tier).put(block.key.object(), encoded).await?;
        }
        self.metrics().blocks_stored.add(1);
        self.cache().keep(&block, bytes.clone());
        self.cache().offer(block.key);
        Ok(())
    }

    async fn encode(&self, block: &Block, plain: Bytes) -> Result<Bytes, shoal_format::FormatError> {
        let codec = block.codec.clone();
        task::blocking("encode", move || codec.encode(plain)).await
    }
}
