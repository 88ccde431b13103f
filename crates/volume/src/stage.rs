//! Blocks of a volume that this host's disk holds until they are stored.

use std::path::PathBuf;
use std::time::Duration;

use shoal_runtime::metrics::Registry;
use shoal_stage::{Admit, Hours, Stage, StageConfig, has_staged_blocks, staged_objects};

use crate::error::VolumeError;
use crate::open::Volume;

/// Share of the free space that a cache must leave which stages leave: as real clients, they may go further than caches.
const FREE_SHARE: f64 = 0.5;

/// How a client stages what is written.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// Each volume has a directory in it.
    pub cache_dir: PathBuf,
    /// Whether blocks are staged, or only those stored that were staged before.
    pub writeback: bool,
    /// Only blocks of fewer plain bytes are staged; `None` for all.
    pub below: Option<u64>,
    /// How long a block waits before it is stored.
    pub upload_delay: Duration,
    /// When blocks are stored.
    pub hours: Hours,
    /// Blocks written to the disk at once; further ones are stored directly.
    pub writes_max: usize,
    /// Staged blocks stored at once.
    pub uploads_max: usize,
    /// Part of the file system that caches leave free; stages leave half of that.
    pub free_space_ratio: f64,
}

impl Volume {
    /// From now on what is written is staged first, if that is asked for or an earlier process left staged blocks. To be called
    /// before anything is written or deleted.
    ///
    /// Errors: `Conflict` if another process stages there; what the system says of the directory.
    pub async fn stage(&mut self, options: &StageOptions, registry: &Registry) -> Result<(), VolumeError> {
        let dir = options.cache_dir.join(&self.settings.uuid);
        if !options.writeback && !has_staged_blocks(&dir) {
            return Ok(());
        }
        let config = StageConfig {
            dir,
            prefix: format!("{}/", self.settings.name),
            admit: if options.writeback { Admit::Blocks } else { Admit::Nothing },
            too_long: options.below,
            upload_delay: options.upload_delay,
            hours: options.hours,
            writes_max: options.writes_max,
            uploads_max: options.uploads_max,
            keep_free_permille: (options.free_space_ratio.clamp(0.0, 1.0) * FREE_SHARE * 1000.0) as u64,
        };
        let stage = Stage::open(config, self.objects.clone(), self.codec.clone(), registry).await?;
        self.objects = staged_objects(self.objects.clone(), stage.clone());
        self.tiers = self.tiers.with_default(self.objects.clone());
        self.stage = Some(stage);
        Ok(())
    }
}
