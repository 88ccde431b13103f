//! A block that a node must fetch: how long its first byte takes from the object store's hands to the reader's.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use shoal_cache::Origins;
use shoal_net::{Endpoint, MtuChoice};
use shoal_object::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore};
use shoal_runtime::clock;
use shoal_types::{BlockKey, BlockRange, OriginId};
use shoal_wire::{GetRequest, Status};
use tokio::runtime::Runtime;

use crate::cluster::{BlockNode, Certs};
use crate::drive;
use crate::limits::BLOCK;
use crate::placement::Placement;
use crate::sample::{Effort, Meter, Sample};

/// How long the object store thinks before its first byte. Far less than a real one's, so that a sample has many.
const THINKS: Duration = Duration::from_millis(2);
/// Bytes in a piece of its answers: what an HTTP client hands out at once.
const PIECE: usize = 64 << 10;
const ORIGIN: OriginId = OriginId([0x0f; 16]);

/// An object store of zeros, every object a block long, that remembers when it gave a first byte.
#[derive(Debug, Default)]
struct Stamping {
    first_byte: Arc<Mutex<Option<Instant>>>,
}

#[async_trait]
impl ObjectStore for Stamping {
    async fn get(&self, key: &str, _: Option<Range<u64>>, _: Option<&str>) -> Result<ObjectBody, ObjectError> {
        clock::sleep(THINKS).await;
        let stamp = Arc::clone(&self.first_byte);
        let pieces = (0..BLOCK / PIECE).map(move |number| {
            if number == 0 {
                *stamp.lock() = Some(clock::now());
            }
            Ok(Bytes::from_static(&[0; PIECE]))
        });
        Ok(ObjectBody::from_stream(key, BLOCK as u64, stream::iter(pieces)))
    }

    async fn put(&self, key: &str, _: Bytes) -> Result<(), ObjectError> {
        Err(self.only_gives(key))
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    async fn head(&self, _: &str) -> Result<ObjectMeta, ObjectError> {
        Ok(ObjectMeta { len: BLOCK as u64, etag: None, modified: None })
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        Err(self.only_gives(key))
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        Ok(Vec::new())
    }

    fn name(&self) -> String {
        "stamping store".to_owned()
    }
}

impl Stamping {
    fn only_gives(&self, key: &str) -> ObjectError {
        ObjectError::NotFound { store: self.name(), key: key.to_owned() }
    }
}

/// A node that holds nothing, and a client of it.
pub struct Miss {
    node: BlockNode,
    endpoint: Endpoint,
    first_byte: Arc<Mutex<Option<Instant>>>,
    asked: Cell<u64>,
    runtime: Runtime,
}

impl Miss {
    /// Starts both.
    pub fn start(certs: &Certs, placement: &Placement) -> anyhow::Result<Miss> {
        let store = Stamping::default();
        let (first_byte, origins) = (Arc::clone(&store.first_byte), Origins::default());
        origins.add(ORIGIN, Arc::new(store));
        let node = placement.serving(|| BlockNode::empty(certs, "miss", MtuChoice::Auto, origins))?;
        let (endpoint, runtime) = (certs.client(MtuChoice::Auto)?, drive::runtime()?);
        Ok(Miss { node, endpoint, first_byte, asked: Cell::new(0), runtime })
    }

    /// Whole blocks that the node must fetch, one at a time; the latencies are from the object store's first byte to the client's.
    pub fn first_byte(&self, effort: &Effort) -> anyhow::Result<Sample> {
        self.runtime.block_on(async {
            let mut meter = Meter::start(effort);
            while meter.goes_on(0) {
                self.asked.set(self.asked.get() + 1);
                let key = BlockKey::whole(ORIGIN, &self.asked.get().to_string());
                let reply = self.endpoint.get(self.node.addr(), &GetRequest::new(key, BlockRange::WHOLE)).await?;
                ensure!(reply.head.status == Status::Ok, "answered {:?}", reply.head);
                let mut body = reply.body;
                body.next().await?.context("a body without a byte")?;
                let stamp = self.first_byte.lock().take().context("the object store was not asked")?;
                meter.done(stamp, BLOCK as u64);
                body.collect().await?;
            }
            Ok(meter.finish())
        })
    }
}

impl Drop for Miss {
    fn drop(&mut self) {
        self.runtime.block_on(self.endpoint.close());
    }
}
