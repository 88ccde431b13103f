//! The node's side: its own tiers, then the origin, once for the whole cluster.
//!
//! A miss starts one fill of the whole block, however many ask and whichever bytes they ask for. The fill is a task of its own:
//! it streams to every waiter while it collects, outlives whoever asked first, and stays visible until the store has the
//! block. Never asks another node: an owner that misses goes to the origin, anyone else says so.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shoal_cluster::ViewWatch;
use shoal_runtime::budget::Budget;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_store::{Found, Store};
use shoal_types::{BlockId, BlockKey, BlockRange, Ctx, ErrorKind, NodeId, Tier};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::deadline::in_time;
use crate::error::CacheError;
use crate::fill::{Fill, Typical};
use crate::flight::Flight;
use crate::metrics::{Meter, TierCounts};
use crate::origins::Origins;
use crate::single_flight::{Flights, Joined, Ticket};
use crate::stream::BlockStream;

/// How a node's cache works. [`NodeCacheConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct NodeCacheConfig {
    /// This node in the ring.
    pub me: NodeId,
    /// How many owners of a block may fetch it from the origin, at least 1. Default 2: the owner and one replica, so that a
    /// dead owner costs nobody more than one failed request.
    pub replicas: usize,
    /// Bytes of blocks on their way from the origin into the store, at most. Default 256 MiB: 64 blocks of 4 MiB, which fill a
    /// 25 Gbit/s link at 80 ms.
    pub fill_memory: u64,
    /// Longest silence of the origin before a fill fails. Default 90 s: longer than the object store's own 60 s, so that its
    /// error, which says more, comes first.
    pub origin_timeout: Duration,
    /// Blocks being warmed at once, at most. Default 16: enough to fill a 10 Gbit/s link at 50 ms, and a quarter of
    /// `fill_memory`, so that a warm-up leaves room for readers.
    pub warm_fills: usize,
}

impl NodeCacheConfig {
    /// The defaults for node `me`.
    pub fn new(me: NodeId) -> NodeCacheConfig {
        NodeCacheConfig {
            me,
            replicas: 2,
            fill_memory: 256 << 20,
            origin_timeout: Duration::from_secs(90),
            warm_fills: 16,
        }
    }
}

/// How [`NodeCache::warm`] came to have the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmed {
    /// It was there.
    Already,
    /// It came from the origin; its bytes.
    Fetched(u64),
}

/// A node's cache: its own tiers and the origins behind them. Cheap to clone.
#[derive(Clone)]
pub struct NodeCache(Arc<Inner>);

struct Inner {
    config: NodeCacheConfig,
    store: Store,
    origins: Origins,
    views: ViewWatch,
    fills: Flights<BlockId>,
    memory: Budget,
    typical: Typical,
    warm_slots: Semaphore,
    meter: Arc<Meter>,
    runtime: Handle,
}

/// Looks into the store before a fill is started in any case: a block may come between two looks, and a damaged one may go.
const LOOKS: usize = 3;

impl NodeCache {
    /// A cache over `store` and `origins`. Fills run on the tokio runtime this is called in. Panics outside a runtime.
    pub fn new(
        config: NodeCacheConfig,
        store: Store,
        origins: Origins,
        views: ViewWatch,
        registry: &Registry,
    ) -> NodeCache {
        NodeCache(Arc::new(Inner {
            store,
            origins,
            views,
            fills: Flights::default(),
            memory: Budget::new(config.fill_memory),
            typical: Typical::default(),
            warm_slots: Semaphore::new(config.warm_fills.max(1)),
            meter: Arc::new(Meter::new(registry)),
            runtime: Handle::current(),
            config,
        }))
    }

    /// Bytes `range` of block `key`: from this node's tiers, else from the origin if this node is an owner of the block.
    ///
    /// `range` is in stored bytes and is clamped to the block. Returns once the block's length is known; bytes follow in the
    /// stream. `ctx.deadline` bounds the time to get there. Errors: [`CacheError::NotOwner`]; `NotFound` if the origin has no
    /// such object; `Timeout`; what the origin says. Cancel-safe: a fill that was started goes on.
    pub async fn read(&self, ctx: &Ctx, key: &BlockKey, range: BlockRange) -> Result<BlockStream, CacheError> {
        let asked = clock::now();
        let meter = &self.0.meter;
        match in_time(ctx, key, self.find(key, range)).await {
            Ok(Source::Found(found)) => Ok(BlockStream::found(found, range, asked, Arc::clone(meter))),
            Ok(Source::Fill { flight, len }) => Ok(BlockStream::fill(flight, len, range, asked, Arc::clone(meter))),
            Err(error) => {
                meter.failed(error.kind());
                Err(error)
            }
        }
    }

    /// The nearest of this node's tiers that holds each block, in the order of `keys`.
    pub fn has(&self, keys: &[BlockKey]) -> Vec<Option<Tier>> {
        keys.iter().map(|key| self.0.store.contains(key)).collect()
    }

    /// Brings the block into this node's store, if it is not there; returns once it is kept.
    ///
    /// Waits its turn behind at most `warm_fills` others. Errors: as [`NodeCache::read`], and why the store did not keep the
    /// block. Cancel-safe: a fill that was started goes on.
    pub async fn warm(&self, ctx: &Ctx, key: &BlockKey) -> Result<Warmed, CacheError> {
        in_time(ctx, key, self.bring(key)).await.inspect_err(|error| self.0.meter.failed(error.kind()))
    }

    /// What was delivered so far, by tier.
    pub fn counts(&self) -> TierCounts {
        self.0.meter.counts()
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The origins this node can fetch from.
    pub fn origins(&self) -> &Origins {
        &self.0.origins
    }

    async fn find(&self, key: &BlockKey, range: BlockRange) -> Result<Source, CacheError> {
        for look in 1..=LOOKS {
            if let Some(found) = self.0.local(key, range).await {
                return Ok(Source::Found(found));
            }
            let stored = || (look < LOOKS).then(|| self.0.store.contains(key)).flatten();
            if let Some(flight) = self.fill(key, stored)? {
                let len = flight.len().await?;
                return Ok(Source::Fill { flight, len });
            }
        }
        unreachable!("the last look always ends in a fill")
    }

    async fn bring(&self, key: &BlockKey) -> Result<Warmed, CacheError> {
        if self.0.store.contains(key).is_some() {
            return Ok(Warmed::Already);
        }
        // The turn is waited for before the fill exists: a reader who wants the block meanwhile starts it at once.
        let _slot = self.0.warm_slots.acquire().await.expect("this semaphore is never closed");
        match self.fill(key, || self.0.store.contains(key))? {
            None => Ok(Warmed::Already),
            Some(flight) => {
                flight.kept().await?;
                Ok(Warmed::Fetched(flight.len().await?.into()))
            }
        }
    }

    /// The fill of `key`, started if nobody has; `None` if `stored` says it is here by now.
    fn fill(&self, key: &BlockKey, stored: impl FnOnce() -> Option<Tier>) -> Result<Option<Arc<Flight>>, CacheError> {
        let owner = self.0.owns(key);
        // A node that is no owner still joins a fill that runs, and starts none.
        let elsewhere = || match stored() {
            Some(_) => Some(Ok(())),
            None if !owner => Some(Err(CacheError::NotOwner { key: key.clone() })),
            None => None,
        };
        match self.0.fills.join(key, &[key.id()], elsewhere) {
            Joined::Running(_, flight) => Ok(Some(flight)),
            Joined::Elsewhere(stored) => stored.map(|()| None),
            Joined::Started(flight, ticket) => {
                let (inner, key) = (Arc::clone(&self.0), key.clone());
                drop(task::spawn_on(&self.0.runtime, "fill", async move { inner.run(key, ticket).await }));
                Ok(Some(flight))
            }
        }
    }
}

impl fmt::Debug for NodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCache").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// Where a read's bytes will come from.
enum Source {
    Found(Found),
    Fill { flight: Arc<Flight>, len: u32 },
}

impl Inner {
    /// True if this node may fetch `key` from the origin. A node that sees no ring is one of its own.
    fn owns(&self, key: &BlockKey) -> bool {
        let view = self.views.current();
        view.members.is_empty() || view.is_owner(self.config.me, key, self.config.replicas.max(1))
    }

    /// What the store has. Its failures are misses: the origin has the block too.
    async fn local(&self, key: &BlockKey, range: BlockRange) -> Option<Found> {
        if let Some(found) = self.store.read_ram(key, range) {
            return Some(found);
        }
        self.store.read(key, range).await.unwrap_or_else(|error| {
            tracing::debug!(%key, %error, "the store failed to read a block; taking it from the origin");
            None
        })
    }

    /// One fill from its start to where the store has the block.
    async fn run(self: Arc<Self>, key: BlockKey, ticket: Ticket<BlockId>) {
        let _fetching = self.meter.fetching();
        let fill = Fill {
            key: &key,
            origins: &self.origins,
            memory: &self.memory,
            typical: &self.typical,
            patience: self.config.origin_timeout,
            meter: &self.meter,
        };
        match fill.run(ticket.flight()).await {
            Ok(filled) => {
                let kept = self.store.insert(&key, filled.whole).await;
                if let Err(error) = &kept {
                    log_unkept(&key, error.kind(), error);
                }
                let error = |source| CacheError::Store { key: key.clone(), source: Arc::new(source) };
                ticket.flight().keep(kept.map_err(error));
                drop((ticket, filled.permit));
            }
            Err(error) => {
                tracing::debug!(%key, %error, "a fill failed");
                ticket.fail(error);
            }
        }
    }
}

/// A block that was delivered but not kept: no one is harmed, so no more than a debug line, and the store counts its refusals.
fn log_unkept(key: &BlockKey, kind: ErrorKind, error: &dyn fmt::Display) {
    tracing::debug!(%key, %kind, %error, "a fetched block was not stored");
}
