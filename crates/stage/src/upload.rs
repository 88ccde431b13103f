//! Storing staged blocks in the object store, each when it is due.

use std::sync::Arc;

use bytes::Bytes;
use shoal_format::FormatError;
use shoal_object::ObjectError;
use shoal_runtime::{clock, task};
use shoal_types::ErrorKind;
use tokio::sync::Semaphore;

use crate::error::StageError;
use crate::index::Next;
use crate::stage::Stage;

/// A staged block was not stored.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Encode(#[from] FormatError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Stores blocks as long as the process lives.
pub(crate) async fn run(stage: Stage) {
    let turns = Arc::new(Semaphore::new(stage.0.config.uploads_max.clamp(1, Semaphore::MAX_PERMITS)));
    loop {
        let turn = Arc::clone(&turns).acquire_owned().await.expect("this semaphore is never closed");
        let (key, plain_len) = next(&stage).await;
        let stage = stage.clone();
        drop(task::spawn("store staged block", async move {
            store(&stage, &key, plain_len).await;
            drop(turn);
        }));
    }
}

/// The next block to store, waited for.
async fn next(stage: &Stage) -> (String, u32) {
    loop {
        let changed = stage.0.changed.notified();
        let in_hours = stage.0.config.hours.hold(clock::local_hour());
        let next = stage.0.index.lock().next(clock::now(), in_hours);
        match next {
            Next::Store(key, plain_len) => return (key, plain_len),
            Next::At(due) => {
                // Either way there is something to look at.
                let _ = clock::timeout(due.saturating_duration_since(clock::now()), changed).await;
            }
            Next::Nothing => changed.await,
        }
    }
}

async fn store(stage: &Stage, path: &str, plain_len: u32) {
    let key = format!("{}{path}", stage.0.config.prefix);
    match try_store(stage, &key, path, plain_len).await {
        Ok(()) => {
            stage.0.metrics.stored();
            stage.tell_stored(&key);
            // First off the list: whoever asks from here on finds the object.
            if stage.0.index.lock().remove(path) {
                stage.remove_file(path).await;
            } else if let Err(error) = stage.0.objects.delete(&key).await {
                // It was to be deleted while it was on its way.
                tracing::debug!(key, %error, "an object nobody needs stays");
            }
        }
        Err(UploadError::Stage(error)) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            tracing::error!(%error, "bytes that were written are lost unless the file is repaired");
            stage.0.index.lock().stick(path);
        }
        Err(error) => {
            let attempts = stage.0.index.lock().failed(path, clock::now());
            if attempts > 0 {
                stage.0.metrics.retried();
                tracing::warn!(key, attempts, %error, "a staged block could not be stored yet");
            }
        }
    }
    stage.changed();
}

async fn try_store(stage: &Stage, key: &str, path: &str, plain_len: u32) -> Result<(), UploadError> {
    let (disk, name) = (Arc::clone(&stage.0.disk), path.to_owned());
    let read = task::blocking("read staged", move || disk.read(&name, plain_len, 0..plain_len)).await;
    let is_gone = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_gone && stage.0.objects.head(key).await.is_ok() {
        // Another client with this cache directory was faster.
        return Ok(());
    }
    let plain = read?;
    let stored: Bytes = if stage.0.codec.is_identity() {
        plain
    } else {
        let codec = stage.0.codec.clone();
        task::blocking("encode", move || codec.encode(plain)).await?
    };
    stage.0.objects.put(key, stored).await?;
    // The staged file, which outlives a loss of power, is removed next.
    Ok(stage.0.objects.sync().await?)
}
