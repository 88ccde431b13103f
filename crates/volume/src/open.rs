//! Opening a volume from its metadata URL.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_cache::ClientCache;
use shoal_format::{BlockCodec, ClientRole, Layout, Settings};
use shoal_meta::{Meta, OpenMode, counted};
use shoal_object::{Location, ObjectOptions, ObjectStore, TierStores};
use shoal_runtime::metrics::Registry;
use shoal_stage::Stage;
use shoal_types::OriginId;
use shoal_vfs::{Parts, WriteParts};

use crate::engine::open_engine;
use crate::error::VolumeError;
use crate::redact::redact;

/// Environment variable that holds the passphrase of a volume's private key, as JuiceFS names it.
const PASSPHRASE_VARIABLE: &str = "JFS_RSA_PASSPHRASE";

/// Bytes a second in a megabit a second, in which volumes and flags bound clients.
pub const BYTES_PER_S_OF_MBPS: u64 = 1_000_000 / 8;

/// What a volume is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading files: nothing is ever written.
    Read,
    /// Loading files.
    Write,
}

impl Access {
    fn needs(self) -> (OpenMode, ClientRole) {
        match self {
            Access::Read => (OpenMode::ReadOnly, ClientRole::ReadOnly),
            Access::Write => (OpenMode::ReadWrite, ClientRole::Writer),
        }
    }
}

/// How a volume is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Reading or writing.
    pub access: Access,
    /// Limits and patience of the object store client.
    pub object: ObjectOptions,
    /// Where the objects are, in the place of the bucket in the volume's setting, which stays as it is.
    pub bucket: Option<String>,
    /// Passphrase of the private key; the environment variable `JFS_RSA_PASSPHRASE` by default.
    pub passphrase: Option<String>,
}

impl OpenOptions {
    /// Defaults for `access`.
    pub fn new(access: Access) -> OpenOptions {
        OpenOptions {
            access,
            object: ObjectOptions::default(),
            bucket: None,
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
    /// The same store by tier, for what is put.
    pub tiers: TierStores,
    /// Blocks that this host's disk holds until they are stored, if there are any or may be: see [`Volume::stage`].
    pub stage: Option<Stage>,
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
        let (mode, role) = options.access.needs();
        let meta = Meta::new(counted(open_engine(url, mode).await?, registry));
        let settings = meta.settings().await?;
        settings.check_client_as(role)?;
        let codec = settings.codec(options.passphrase.as_deref())?;
        let layout = settings.layout();
        let reached =
            Settings { bucket: options.bucket.clone().unwrap_or(settings.bucket.clone()), ..settings.clone() };
        let tiers = open_tiers(&reached, &limited(&settings, &options.object), registry)?;
        let objects = tiers.of(0).clone();
        shoal_object::probe(&*objects).await?;
        let origin = OriginId::of_volume(&settings.uuid);
        Ok(Volume { url: redact(url), settings, meta, objects, tiers, stage: None, layout, codec, origin })
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

    /// What a `Vfs` over this volume is made of, reading through `cache`; with `writes`, it is written too.
    pub fn parts(&self, cache: ClientCache, writes: Option<WriteParts>) -> Parts {
        Parts {
            meta: self.meta.clone(),
            cache,
            layout: self.layout.clone(),
            codec: self.codec.clone(),
            origin: self.origin,
            writes,
        }
    }
}

/// The metadata of the volume at `url` alone, for what needs no object.
///
/// Errors: as [`Volume::open`].
pub async fn open_meta(url: &str, access: Access) -> Result<Meta, VolumeError> {
    let (mode, role) = access.needs();
    let meta = Meta::new(open_engine(url, mode).await?);
    meta.settings().await?.check_client_as(role)?;
    Ok(meta)
}

/// The object stores of every tier of a volume with these settings.
fn open_tiers(settings: &Settings, options: &ObjectOptions, registry: &Registry) -> Result<TierStores, VolumeError> {
    let mut others = BTreeMap::new();
    for (id, tier) in settings.tiers.iter().filter(|(id, _)| **id != 0) {
        others.insert(*id, open_class(settings, &tier.storage_class, options, registry)?);
    }
    Ok(TierStores::new(open_objects(settings, options, registry)?, others))
}

/// `options` with the limits that the volume sets for each of its clients, where they set none themselves.
fn limited(settings: &Settings, options: &ObjectOptions) -> ObjectOptions {
    let or_set = |own: u64, mbps: i64| match own {
        0 => u64::try_from(mbps).unwrap_or(0).saturating_mul(BYTES_PER_S_OF_MBPS),
        own => own,
    };
    ObjectOptions {
        upload_bytes_per_s: or_set(options.upload_bytes_per_s, settings.upload_limit),
        download_bytes_per_s: or_set(options.download_bytes_per_s, settings.download_limit),
        ..options.clone()
    }
}

/// The object store of a volume with these settings; one store a bucket when it is sharded. What is put has the class of tier 0.
pub(crate) fn open_objects(
    settings: &Settings,
    options: &ObjectOptions,
    registry: &Registry,
) -> Result<Arc<dyn ObjectStore>, VolumeError> {
    let class = settings.tiers.get(&0).map_or(&settings.storage_class, |tier| &tier.storage_class);
    open_class(settings, class, options, registry)
}

fn open_class(
    settings: &Settings,
    storage_class: &str,
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
            storage_class: storage_class.to_owned(),
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
