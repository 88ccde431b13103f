//! A volume in memory, its clients, and a store that fails on request.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_cache::{ClientCache, ClientCacheConfig};
use shoal_format::{Ino, SessionInfo, Settings, SliceRecord};
use shoal_meta::mem::MemEngine;
use shoal_meta::testing::sample;
use shoal_meta::{HEARTBEAT, Meta, Session};
use shoal_object::fault::FaultStore;
use shoal_object::{ObjectStore, TierStores};
use shoal_runtime::metrics::Registry;
use shoal_types::{Ctx, OriginId};
use shoal_vfs::{OpenFile, Parts, UPLOADS_MAX, Vfs, VfsOptions, WriteParts};
use tokio::runtime::Handle;

/// Bytes of a block in every volume here: the smallest the format has.
pub const BLOCK: usize = 64 << 10;

/// Memory for writes of a client, in bytes: sixteen blocks.
pub const MEMORY: u64 = 16 * BLOCK as u64;

/// A volume with one empty file.
pub struct Bed {
    pub engine: Arc<MemEngine>,
    pub store: Arc<FaultStore>,
    pub meta: Meta,
    pub settings: Settings,
    pub ino: Ino,
}

/// One client of it.
pub struct Client {
    pub vfs: Vfs,
    pub session: Session,
    pub registry: Registry,
}

impl Bed {
    pub async fn new() -> Bed {
        Bed::with(Settings { block_size: 64, ..sample::settings() }).await
    }

    pub async fn with(settings: Settings) -> Bed {
        let engine = MemEngine::new();
        let meta = Meta::new(engine.clone());
        meta.init(&settings, false).await.unwrap();
        let ino = meta.alloc_inodes(2).await.unwrap().start;
        let batch = sample::BatchBuilder::new().file(1, b"f", ino, 0).file(1, b"g", ino + 1, 0);
        meta.import(batch.build()).await.unwrap();
        Bed { engine, store: FaultStore::over_memory(), meta, settings, ino: Ino(ino) }
    }

    pub async fn client(&self) -> Client {
        let registry = Registry::new();
        let session = Session::open(self.meta.clone(), SessionInfo::default(), HEARTBEAT).await.unwrap();
        let objects: Arc<dyn ObjectStore> = self.store.clone();
        let cache = ClientCache::new(ClientCacheConfig::default(), objects.clone(), None, &registry);
        let parts = Parts {
            meta: self.meta.clone(),
            cache,
            layout: self.settings.layout(),
            codec: self.settings.codec(None).unwrap(),
            origin: OriginId::of_volume(&self.settings.uuid),
            writes: Some(WriteParts {
                session: session.clone(),
                tiers: TierStores::new(objects, BTreeMap::new()),
                memory: MEMORY,
                uploads_max: UPLOADS_MAX,
                stage: None,
            }),
        };
        let vfs = Vfs::new(parts, VfsOptions::default(), Handle::current(), &registry);
        Client { vfs, session, registry }
    }

    /// Lengths of the objects in the store, in the order of their keys.
    pub async fn objects(&self) -> Vec<usize> {
        self.store.list("", None, 10_000).await.unwrap().iter().map(|object| object.meta.len as usize).collect()
    }

    /// The file's records in its first chunk.
    pub async fn records(&self) -> Vec<SliceRecord> {
        self.meta.chunk(self.ino, 0).await.unwrap()
    }
}

impl Client {
    pub async fn open(&self, ino: Ino) -> OpenFile {
        self.vfs.open(ino).await.unwrap().file
    }

    /// What a fresh client without a cache reads: all of the file.
    pub async fn read_all(&self, ino: Ino) -> Vec<u8> {
        let file = self.open(ino).await;
        let mut all = Vec::new();
        loop {
            let part = self.read(&file, all.len() as u64, 1 << 20).await;
            if part.is_empty() {
                return all;
            }
            all.extend(part);
        }
    }

    pub async fn read(&self, file: &OpenFile, offset: u64, len: u32) -> Vec<u8> {
        self.vfs.read(&Ctx::foreground(), file, offset, len).await.unwrap().to_vec()
    }

    /// Writes in pieces as large as the kernel's.
    pub async fn write(&self, file: &OpenFile, offset: u64, data: &[u8]) {
        let mut at = offset;
        for piece in data.chunks(128 << 10) {
            assert_eq!(self.vfs.write(file, at, piece).await.unwrap() as usize, piece.len());
            at += piece.len() as u64;
        }
    }

    /// Bytes written and not stored yet.
    pub fn unstored(&self) -> u64 {
        let text = self.registry.gather_text();
        let line = text.lines().find(|line| line.starts_with("shoal_vfs_unstored_bytes")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
    }
}
