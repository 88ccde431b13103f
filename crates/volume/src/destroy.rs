//! Destroying a volume: objects first, then the metadata that names them, so that a run that was stopped can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};
use shoal_format::Settings;
use shoal_meta::Meta;
use shoal_meta_sql::OpenMode;
use shoal_object::{ObjectOptions, ObjectStore};
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;

use crate::engine::open_engine;
use crate::error::VolumeError;
use crate::open::open_objects;

/// Objects listed at once.
const PAGE: usize = 1000;

/// A volume that may be destroyed: opened whatever its setting asks of clients.
#[derive(Debug)]
pub struct Doomed {
    /// Its setting.
    pub settings: Settings,
    /// Its namespace.
    pub meta: Meta,
    /// Its object store.
    pub objects: Arc<dyn ObjectStore>,
}

impl Doomed {
    /// Opens the volume at `url`. Errors: as [`Volume::open`](crate::Volume::open).
    pub async fn open(url: &str, registry: &Registry) -> Result<Doomed, VolumeError> {
        let meta = Meta::new(open_engine(url, OpenMode::ReadWrite).await?);
        let settings = meta.settings().await?;
        let objects = open_objects(&settings, &ObjectOptions::default(), registry)?;
        shoal_object::probe(&*objects).await?;
        Ok(Doomed { settings, meta, objects })
    }

    /// What every key of its objects begins with.
    pub fn prefix(&self) -> String {
        format!("{}/", self.settings.name)
    }

    /// Deletes every object of the volume, `at_once` at a time, and counts them in `deleted`.
    pub async fn delete_objects(&self, at_once: usize, deleted: &AtomicU64) -> Result<(), VolumeError> {
        let prefix = self.prefix();
        let mut after: Option<String> = None;
        loop {
            let page = self.objects.list(&prefix, after.as_deref(), PAGE).await?;
            after = page.last().filter(|_| page.len() == PAGE).map(|entry| entry.key.clone());
            let deletions: Vec<_> = page.iter().map(|entry| self.delete(&entry.key, deleted)).collect();
            futures::stream::iter(deletions).buffer_unordered(at_once.max(1)).try_collect::<()>().await?;
            if after.is_none() {
                break;
            }
        }
        self.remove_empty_dirs().await
    }

    async fn delete(&self, key: &str, deleted: &AtomicU64) -> Result<(), VolumeError> {
        self.objects.delete(key).await?;
        deleted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A directory that serves as an object store keeps the directories of its objects: those that are empty go.
    async fn remove_empty_dirs(&self) -> Result<(), VolumeError> {
        if self.settings.storage != "file" {
            return Ok(());
        }
        let roots: Vec<_> = self.settings.buckets()?.iter().map(|dir| format!("{dir}{}", self.prefix())).collect();
        task::blocking("empty-dirs", move || {
            roots.iter().for_each(|root| remove_if_empty(root.as_ref()));
            Ok(())
        })
        .await
    }

    /// Removes the volume's metadata. Errors: `Invalid` if it is that of another volume by now.
    pub async fn drop_metadata(&self) -> Result<(), VolumeError> {
        Ok(self.meta.destroy(&self.settings.uuid).await?)
    }
}

/// Removes `dir` and what lies below, as far as there is no file in it.
fn remove_if_empty(dir: &std::path::Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_if_empty(&entry.path());
        }
    }
    // One that holds a file stays.
    let _ = std::fs::remove_dir(dir);
}
