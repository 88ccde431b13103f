//! Opening a stage: what was left in it, and the task that stores what is in it.

use std::sync::Arc;

use shoal_format::BlockCodec;
use shoal_object::ObjectStore;
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;

use crate::error::StageError;
use crate::stage::{Stage, StageConfig};
use crate::upload;

impl Stage {
    /// Takes up what an earlier process left in the directory, and begins to store it in `objects`, encoded by `codec`. Runs on
    /// the tokio runtime it is called in.
    ///
    /// Errors: `Conflict` if another process stages there; what the system says of the directory.
    pub async fn open(
        config: StageConfig,
        objects: Arc<dyn ObjectStore>,
        codec: BlockCodec,
        registry: &Registry,
    ) -> Result<Stage, StageError> {
        let stage = Stage::take_up(config, objects, codec, registry).await?;
        drop(task::spawn("store staged blocks", upload::run(stage.clone())));
        Ok(stage)
    }
}
