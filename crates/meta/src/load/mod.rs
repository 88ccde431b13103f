//! Loads a dump of a volume into an empty database of any engine.

mod batch;
mod binary;
mod entry;
mod pull;
mod read;
mod write;

use std::io::{BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use shoal_format::Settings;
use shoal_runtime::task;
use tokio::sync::{mpsc, oneshot};

use self::batch::{Found, Totals};
pub use self::binary::{Segment, segments};
use self::write::{Begin, Finish, LINKED_PER_TXN, WriteBatch, WriteLinked};
use crate::error::MetaError;
use crate::meta::Meta;
use crate::retry::transact;

/// Batches that wait for the database while the next is read.
const BATCHES_AHEAD: usize = 2;

/// Loads the JSON dump that `input` gives into the database of `meta`; gives the volume's setting. `names` counts what was loaded so far.
///
/// Link counts, use and references are counted anew. Errors: `Conflict` for a database that is not empty; `Invalid` for text that is no
/// dump; `Denied` for a volume that wants a newer client. After an error the database holds no
/// volume, but perhaps a part of its records.
pub async fn load_json(
    meta: &Meta,
    input: impl BufRead + Send + 'static,
    names: &AtomicU64,
) -> Result<Settings, MetaError> {
    load_by(meta, names, move |sender| read::read(input, sender)).await
}

/// Loads the binary dump that `input` gives, as [`load_json`] does; only references are counted anew. Files that were open and removed
/// when the volume was dumped are held until some client cleans up.
pub async fn load_binary(
    meta: &Meta,
    input: impl Read + Send + 'static,
    names: &AtomicU64,
) -> Result<Settings, MetaError> {
    load_by(meta, names, move |sender| binary::read(input, sender)).await
}

async fn load_by(
    meta: &Meta,
    names: &AtomicU64,
    read: impl FnOnce(mpsc::Sender<Found>) -> Result<(), MetaError> + Send + 'static,
) -> Result<Settings, MetaError> {
    let (sender, mut found) = mpsc::channel(BATCHES_AHEAD);
    let (done, outcome) = oneshot::channel();
    drop(task::thread("load-reader", move || {
        // Nobody waits for it where writing failed first.
        let _ = done.send(read(sender));
    }));
    let written = write_all(meta, &mut found, names).await;
    drop(found);
    let read = outcome.await.map_err(|_| MetaError::Stopped { what: "reading the dump" })?;
    match (written, read) {
        // What the reader says of its end explains why nothing more came.
        (Err(MetaError::Stopped { .. }), Err(error)) => Err(error),
        (written, _) => written,
    }
}

async fn write_all(meta: &Meta, found: &mut mpsc::Receiver<Found>, names: &AtomicU64) -> Result<Settings, MetaError> {
    let mut volume: Option<Settings> = None;
    while let Some(found) = found.recv().await {
        match found {
            Found::Settings(settings) => {
                transact(meta.engine(), &Begin { at: meta.name(), settings: &settings }).await?;
                volume = Some(*settings);
            }
            Found::Batch(batch) => {
                transact(meta.engine(), &WriteBatch(&batch)).await?;
                names.fetch_add(batch.dentries.len() as u64, Ordering::Relaxed);
            }
            Found::End(totals) => return finish(meta, volume, &totals).await,
        }
    }
    Err(MetaError::Stopped { what: "reading the dump" })
}

async fn finish(meta: &Meta, volume: Option<Settings>, totals: &Totals) -> Result<Settings, MetaError> {
    let settings = volume.ok_or_else(|| MetaError::invalid("the dump has no setting"))?;
    for linked in totals.linked.chunks(LINKED_PER_TXN) {
        transact(meta.engine(), &WriteLinked(linked)).await?;
    }
    transact(meta.engine(), &Finish { settings: &settings, totals }).await?;
    Ok(settings)
}
