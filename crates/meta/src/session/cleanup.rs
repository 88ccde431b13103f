//! Doing at once what periodic work would do: for a command that frees space.

use std::sync::Arc;

use futures::TryStreamExt;

use super::{Session, now};
use crate::error::MetaError;
use crate::slices::SliceStore;

/// Files read at once.
const PAGE: usize = 1000;
/// How long whoever clones a tree has before others take it for dead, as with real clients.
const DETACHED_AGE_SECS: i64 = 86_400;

impl Session {
    /// Empties the trash of what is too old, removes trees that a clone left without a name, and deletes the data of every removed
    /// file, however young, of slices that waited as long as the trash keeps, and of slices that nothing names; `at_once` files at the
    /// same time. Gives how many slices of the last kind.
    ///
    /// For a session that shares no periodic work.
    pub async fn clean_up(&self, slices: Arc<dyn SliceStore>, at_once: usize) -> Result<usize, MetaError> {
        // A session that has one already keeps it: it is the volume's.
        let _ = self.0.removed.slices.set(slices);
        self.clean_trash().await?;
        let abandoned = now().secs.saturating_sub(DETACHED_AGE_SECS);
        for top in self.engine().records().detached_before(abandoned, usize::MAX).await? {
            self.drop_detached(top, at_once).await?;
        }
        loop {
            let page = self.engine().records().deleted_files(i64::MAX, PAGE).await?;
            let deletions = futures::stream::iter(page.iter().map(|file| Ok(self.delete_file_data(*file))));
            deletions.try_buffer_unordered(at_once.max(1)).try_collect::<()>().await?;
            if page.len() < PAGE {
                break;
            }
        }
        self.delete_dead_slices().await
    }
}
