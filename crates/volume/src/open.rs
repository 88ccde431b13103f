//! Opening a volume from its metadata URL.

use std::sync::Arc;

use shoal_cache::ClientCache;
use shoal_format::{BlockCodec, ClientRole, Layout, Settings};
use shoal_meta::Meta;
use shoal_meta_sql::OpenMode;
use shoal_object::{Location, ObjectOptions, ObjectStore};
use shoal_runtime::metrics::Registry;
use shoal_types::OriginId;
use shoal_vfs::Parts;

use crate::engine::open_engine;
use crate::error::VolumeError;
use crate::redact::redact;

/// Environment variable that holds the passphrase of a volume's private key, as JuiceFS names it.
const PASSPHRASE_VARIABLE: &str = "JFS_RSA_PASSPHRASE";

/// What a volume is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading files: nothing is ever written.
    Read,
    /// Loading files.
    Write,
}

/// How a volume is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Reading or writing.
    pub access: Access,
    /// Limits and patience of the object store client.
    pub object: ObjectOptions,
    /// Passphrase of the private key; the environment variable `JFS_RSA_PASSPHRASE` by default.
    pub passphrase: Option<String>,
}

impl OpenOptions {
    /// Defaults for `access`.
    pub fn new(access: Access) -> OpenOptions {
        OpenOptions {
            access,
            object: ObjectOptions::default(),
            passphrase: std::env::var(PASSPHRASE_VARIABLE).ok().filter(|text| !text.is_empty()),
        }
    }
}

/// An open volume.
#[derive(Clone)]
pub struct Volume {
    /// Its metadata URL, without the password.
    pub url: String,
    /// Its setting.
    pub settings: Settings,
    /// Its namespace.
    pub meta: Meta,
    /// Its object store. Keys are full keys, the volume's prefix included.
    pub objects: Arc<dyn ObjectStore>,
    /// How its blocks are named.
    pub layout: Layout,
    /// How its blocks are encoded.
    pub codec: BlockCodec,
    /// Its identity among the origins of a cache node.
    pub origin: OriginId,
}

impl Volume {
    /// Opens the volume at `url`.
    ///
    /// Errors: `Invalid` for a URL no engine takes; `NotFound` without a database, a volume in it, or its bucket; `Denied` when the
    /// volume wants a newer client. Each is one sentence.
    pub async fn open(url: &str, options: &OpenOptions, registry: &Registry) -> Result<Volume, VolumeError> {
        let (mode, role) = match options.access {
            Access::Read => (OpenMode::ReadOnly, ClientRole::ReadOnly),
            Access::Write => (OpenMode::ReadWrite, ClientRole::Writer),
        };
        let meta = Meta::new(open_engine(url, mode).await?);
        let settings = meta.settings().await?;
        settings.check_client_as(role)?;
        let codec = settings.codec(options.passphrase.as_deref())?;
        let layout = settings.layout();
        let objects = open_objects(&settings, &options.object, registry)?;
        shoal_object::probe(&*objects).await?;
        let origin = OriginId::of_volume(&settings.uuid);
        Ok(Volume { url: redact(url), settings, meta, objects, layout, codec, origin })
    }

    /// Identity and objects of the volume at `url`, for a cache node: it never decodes a block, so it needs neither the volume's key
    /// nor a passphrase. Errors: as [`Volume::open`].
    pub async fn open_origin(
        url: &str,
        options: &ObjectOptions,
        registry: &Registry,
    ) -> Result<(OriginId, Arc<dyn ObjectStore>), VolumeError> {
        let meta = Meta::new(open_engine(url, OpenMode::ReadOnly).await?);
        let settings = meta.settings().await?;
        meta.close().await;
        settings.check_client_as(ClientRole::ReadOnly)?;
        let objects = open_objects(&settings, options, registry)?;
        shoal_object::probe(&*objects).await?;
        Ok((OriginId::of_volume(&settings.uuid), objects))
    }

    /// What a `Vfs` over this volume is made of, reading through `cache`.
    pub fn parts(&self, cache: ClientCache) -> Parts {
        Parts {
            meta: self.meta.clone(),
            cache,
            layout: self.layout.clone(),
            codec: self.codec.clone(),
            origin: self.origin,
        }
    }
}

/// The object store of a volume with these settings; one store a bucket when it is sharded.
pub(crate) fn open_objects(
    settings: &Settings,
    options: &ObjectOptions,
    registry: &Registry,
) -> Result<Arc<dyn ObjectStore>, VolumeError> {
    let location = |bucket: String| -> Result<Location, VolumeError> {
        Ok(Location {
            storage: settings.storage.clone(),
            bucket,
            access_key: settings.access_key.clone(),
            secret_key: settings.secret_key()?.unwrap_or_default(),
            session_token: settings.session_token()?.unwrap_or_default(),
        })
    };
    let mut stores = Vec::new();
    for bucket in settings.buckets()? {
        stores.push(shoal_object::open(&location(bucket)?, options, registry)?);
    }
    match stores.as_slice() {
        [store] => Ok(store.clone()),
        _ => {
            let layout = settings.layout();
            Ok(shoal_object::sharded(stores, Arc::new(move |key: &str| layout.shard_of(key) as usize)))
        }
    }
}
