//! A volume's object store as those see it who delete: what is deleted is not stored afterwards.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_object::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore};

use crate::stage::Stage;

#[derive(Debug)]
struct StagedObjects {
    inner: Arc<dyn ObjectStore>,
    stage: Stage,
}

/// `inner`, where a delete takes a staged block along. Staged blocks are not read through it: their bytes are plain.
pub fn staged_objects(inner: Arc<dyn ObjectStore>, stage: Stage) -> Arc<dyn ObjectStore> {
    Arc::new(StagedObjects { inner, stage })
}

#[async_trait]
impl ObjectStore for StagedObjects {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        self.inner.get(key, range, if_match).await
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.inner.put(key, data).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        // First here: one that is on its way meanwhile is deleted by whoever stores it.
        self.stage.forget(key).await;
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        self.inner.list(prefix, after, limit).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}
