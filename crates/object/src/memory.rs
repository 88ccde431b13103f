//! A store in this process's memory, for tests, benches and storage `mem`. Everything is lost with the process.

use std::{
    collections::{BTreeMap, HashMap},
    ops::{Bound, Range},
    sync::{Arc, LazyLock, Weak},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use shoal_runtime::clock;
use shoal_types::checksum::crc32c;

use crate::{
    ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore,
    error::object_name,
    store::{check_key, check_prefix, check_range, clamp},
};

/// A new, empty store in memory.
pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new("memory"))
}

/// The store in memory that this process knows as `bucket`, made if nobody holds it; an empty name is always new.
///
/// Two openings of one `mem` volume in one process so see the same objects.
pub(crate) fn shared(bucket: &str) -> Arc<dyn ObjectStore> {
    static STORES: LazyLock<Mutex<HashMap<String, Weak<MemoryStore>>>> = LazyLock::new(Mutex::default);
    if bucket.is_empty() {
        return memory();
    }
    let mut stores = STORES.lock();
    if let Some(store) = stores.get(bucket).and_then(Weak::upgrade) {
        return store;
    }
    stores.retain(|_, store| store.strong_count() > 0);
    let store = Arc::new(MemoryStore::new(&format!("memory bucket `{bucket}`")));
    stores.insert(bucket.to_owned(), Arc::downgrade(&store));
    store
}

#[derive(Debug)]
struct MemoryStore {
    name: String,
    objects: Mutex<BTreeMap<String, Object>>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    meta: ObjectMeta,
    crc32c: u32,
}

impl MemoryStore {
    fn new(name: &str) -> MemoryStore {
        MemoryStore { name: name.to_owned(), objects: Mutex::default() }
    }

    fn find(&self, key: &str) -> Result<Object, ObjectError> {
        check_key(key)?;
        let object = self.objects.lock().get(key).cloned();
        object.ok_or_else(|| ObjectError::NotFound { store: self.name(), key: key.to_owned() })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        check_range(&self.name, key, range.as_ref())?;
        let Object { bytes, meta, crc32c } = self.find(key)?;
        if let Some(etag) = if_match.filter(|etag| meta.etag.as_deref() != Some(etag)) {
            return Err(ObjectError::Changed { store: self.name(), key: key.to_owned(), etag: etag.to_owned() });
        }
        let span = clamp(&self.name, key, range.as_ref(), meta.len)?;
        let whole = span == (0..meta.len);
        // Both ends are at most the length of a slice in memory.
        let part = bytes.slice(span.start as usize..span.end as usize);
        let mut body = ObjectBody::from_bytes(object_name(key, &self.name), part);
        body.object_len = Some(meta.len);
        body.etag = meta.etag;
        body.crc32c = whole.then_some(crc32c);
        Ok(body)
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        check_key(key)?;
        let crc32c = crc32c(&data);
        // Length and checksum identify bytes well enough for a store nobody attacks.
        let etag = Some(format!("\"{crc32c:08x}-{:x}\"", data.len()));
        let modified = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(clock::unix_now().as_secs()));
        let meta = ObjectMeta { len: data.len() as u64, etag, modified };
        self.objects.lock().insert(key.to_owned(), Object { bytes: data, meta, crc32c });
        Ok(())
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        Ok(self.find(key)?.meta)
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        check_key(key)?;
        self.objects.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        check_prefix(prefix)?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let objects = self.objects.lock();
        let found = objects.range::<str, _>((start, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, object)| ObjectEntry { key: key.clone(), meta: object.meta.clone() }).collect())
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_named_store_is_shared_while_somebody_holds_it() {
        let first = shared("shared-test");
        first.put("k", Bytes::from_static(b"v")).await.unwrap();
        let second = shared("shared-test");
        assert_eq!(second.head("k").await.unwrap().len, 1);
        drop((first, second));
        assert!(shared("shared-test").head("k").await.is_err());
        assert!(shared("").head("k").await.is_err());
    }
}
