//! The client's side: own memory, then the ring, then the origin.
//!
//! Whatever many readers ask of a block at once, it is fetched once: the fetch is a task of its own that serves all of them and
//! fills RAM. How much of a block is fetched for a small read is decided by [`crate::extent`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_cluster::Member;
use shoal_object::ObjectStore;
use shoal_runtime::budget::{Budget, Permit};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_stage::Stage;
use shoal_types::{BlockId, BlockKey, BlockRange, Class, Ctx, MAX_BLOCK_BYTES, Tier};
use tokio::runtime::Handle;

use crate::deadline::in_time;
use crate::error::CacheError;
use crate::extent::{Read, extent};
use crate::fetch::{Block, Fetcher};
use crate::flight::Delivered;
use crate::last_resort::LastResort;
use crate::locate;
use crate::metrics::{Meter, TIERS, TierCounts};
use crate::nodes::{Nodes, NodesConfig, Peers};
use crate::offer::Offers;
use crate::ram::Ram;
use crate::single_flight::{Flights, Joined, Ticket};
use crate::warm::{self, WarmProgress, WarmReport};

/// How a client's cache works.
#[derive(Debug, Clone)]
pub struct ClientCacheConfig {
    /// Bytes for blocks in memory, those on their way included. Default 512 MiB. A quarter of it, and no less than
    /// [`MIN_MEMORY`], is for blocks on their way, and half of that for those fetched ahead; the rest keeps blocks.
    pub memory: u64,
    /// Longest time a node may be silent, saying that it fetches the block, before the next place is asked. Default 5 s: an owner
    /// that fetches is silent until the origin's first byte, and origins answer within a second but for bad moments. A node that
    /// is late is asked after at most a tenth of it (500 ms) whether it is there, and has a twentieth (250 ms) to say so. The
    /// endpoint's own timeouts hold too.
    pub peer_timeout: Duration,
    /// How many owners of a block are asked before the origin, at least 1. Default 2; more than the nodes' own setting costs a
    /// request that answers "not owner".
    pub replicas: usize,
    /// Longest silence of the origin before a read fails. Default 90 s: longer than the object store's own 60 s, so that its
    /// error, which says more, comes first.
    pub origin_timeout: Duration,
    /// Warm-up requests under way at once, at most. Default 8; a node bounds its own work again.
    pub warm_batches: usize,
    /// Bytes asked of all nodes together and not yet received, at most; no more than 16 MiB of them of one node in a ring of four
    /// and more. Default 64 MiB: 100 Gbit/s at 5 ms. What comes at once from many nodes must pass this host's one link.
    pub in_flight: u64,
    /// How many bytes may be asked for twice, because the first place is late, in percent of those delivered; 0 for none.
    /// Default 5. A node that does not even say that it is there is always passed over.
    pub hedge_percent: u8,
    /// Owners in this zone are asked before others. Default none: in the order of the ring.
    pub zone: Option<String>,
    /// Blocks that this client has written are offered to their owners. Default no: who writes them may be the only one to read.
    pub fill_group: bool,
}

impl Default for ClientCacheConfig {
    fn default() -> ClientCacheConfig {
        ClientCacheConfig {
            memory: 512 << 20,
            peer_timeout: Duration::from_secs(5),
            replicas: 2,
            origin_timeout: Duration::from_secs(90),
            warm_batches: 8,
            in_flight: 64 << 20,
            hedge_percent: 5,
            zone: None,
            fill_group: false,
        }
    }
}

/// Least memory a client's cache uses, in bytes: room for four blocks of 4 MiB on their way. With no more, nothing is kept.
pub const MIN_MEMORY: u64 = 16 << 20;

/// A client's cache: memory, and the places behind it. Cheap to clone.
#[derive(Clone)]
pub struct ClientCache(Arc<Inner>);

struct Inner {
    config: ClientCacheConfig,
    ram: Ram,
    flights: Flights<Span>,
    /// For bytes on their way.
    memory: Budget,
    /// For the part of them that was fetched ahead.
    ahead: Budget,
    /// Blocks that are written and not in the origin yet.
    stage: Option<Stage>,
    offers: Option<Offers>,
    fetcher: Fetcher,
    meter: Arc<Meter>,
    runtime: Handle,
}

/// What one flight fetches: plain bytes `range` of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    block: BlockId,
    range: BlockRange,
}

impl Span {
    fn whole(block: &Block) -> Span {
        Span { block: block.key.id(), range: BlockRange { start: 0, end: block.plain_len } }
    }
}

impl ClientCache {
    /// A cache over `peers`, if there is a ring, and `origin`. Fetches run on the tokio runtime this is called in; reads may be
    /// made from any. Panics outside a runtime.
    pub fn new(
        config: ClientCacheConfig,
        origin: Arc<dyn ObjectStore>,
        peers: Option<Peers>,
        registry: &Registry,
    ) -> ClientCache {
        ClientCache::with_stage(config, origin, None, peers, registry)
    }

    /// [`ClientCache::new`] of a client some of whose blocks are staged on its host's disk before they are in `origin`.
    pub fn with_stage(
        config: ClientCacheConfig,
        origin: Arc<dyn ObjectStore>,
        stage: Option<Stage>,
        peers: Option<Peers>,
        registry: &Registry,
    ) -> ClientCache {
        let meter = Arc::new(Meter::new(registry));
        let memory = config.memory.max(MIN_MEMORY);
        let on_the_way = (memory / 4).max(MIN_MEMORY);
        let nodes = peers.map(|peers| {
            let ring = NodesConfig {
                replicas: config.replicas,
                peer_timeout: config.peer_timeout,
                in_flight: config.in_flight.max(MAX_BLOCK_BYTES.into()),
                hedge_percent: config.hedge_percent,
                zone: config.zone.clone(),
            };
            let nodes = Nodes::new(peers, ring, &meter);
            let (gauge, in_flight) = (meter.in_flight(), nodes.in_flight.clone());
            registry.on_scrape(move || gauge.set_u64(in_flight.used()));
            nodes
        });
        let (offers, offered) = if config.fill_group && nodes.is_some() {
            let (offers, offered) = Offers::new(registry);
            (Some(offers), Some(offered))
        } else {
            (None, None)
        };
        let patience = config.origin_timeout;
        let cache = ClientCache(Arc::new(Inner {
            ram: Ram::new(memory - on_the_way),
            flights: Flights::default(),
            memory: Budget::new(on_the_way),
            ahead: Budget::new(on_the_way / 2),
            fetcher: Fetcher { nodes, last: LastResort { store: origin, patience, meter: Arc::clone(&meter) } },
            stage,
            offers,
            meter,
            runtime: Handle::current(),
            config,
        }));
        if let Some(offered) = offered {
            let inner = Arc::downgrade(&cache.0);
            let warm = move |keys| {
                let cache = ClientCache(inner.upgrade()?);
                Some(async move { cache.warm(keys, |_| ()).await })
            };
            drop(task::spawn("offer blocks", offered.deliver(warm)));
        }
        cache
    }

    /// Offers a block that this client has written, and that is in the origin, to its owner on the ring. Best effort: with too many
    /// on the list, or without a ring, nothing happens.
    pub fn offer(&self, key: BlockKey) {
        if let Some(offers) = &self.0.offers {
            offers.add(key);
        }
    }

    /// [`ClientCache::try_ram`] from this host's stage.
    async fn staged_part(&self, block: &Block, range: BlockRange) -> Option<Bytes> {
        let stage = self.0.stage.as_ref()?;
        let bytes = stage.read(block.key.object(), range.start..range.end).await?;
        self.0.meter.answered(Tier::Nvme);
        self.0.meter.delivered(Tier::Nvme, bytes.len());
        Some(bytes)
    }

    /// Plain bytes `range` of `block` if one piece of memory has them all: for callers that must not wait.
    ///
    /// Takes the lock of one shard of the memory, twice at most, and allocates nothing. `range` is clamped to the block.
    pub fn try_ram(&self, block: &Block, range: BlockRange) -> Option<Bytes> {
        let range = range.clamp(block.plain_len);
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let bytes = self.0.ram.get(block.key.id(), range)?;
        self.0.meter.answered(Tier::Ram);
        self.0.meter.delivered(Tier::Ram, bytes.len());
        Some(bytes)
    }

    /// Plain bytes `range` of `block`, clamped to it, from the nearest tier that has them.
    ///
    /// A node that fails, is late or gives wrong bytes costs time, never an error: the next place is asked, see `race`. Errors: `NotFound` if
    /// the origin has no such object; `Corrupt` if its bytes are wrong; `Timeout` after `ctx.deadline`; otherwise what the origin
    /// says. Cancel-safe: a fetch that was started goes on and fills memory.
    pub async fn read(&self, ctx: &Ctx, block: &Block, range: BlockRange) -> Result<Bytes, CacheError> {
        let range = range.clamp(block.plain_len);
        if let Some(bytes) = self.try_ram(block, range) {
            return Ok(bytes);
        }
        if let Some(bytes) = self.staged_part(block, range).await {
            return Ok(bytes);
        }
        let (asked, meter) = (clock::now(), &self.0.meter);
        match in_time(ctx, &block.key, self.miss(ctx.class, block, range)).await {
            Ok(delivered) => {
                let mut farthest = Tier::Ram;
                for tier in Tier::ALL {
                    let bytes = delivered.by_tier[tier as usize];
                    if bytes > 0 {
                        meter.delivered(tier, bytes as usize);
                        farthest = tier;
                    }
                }
                meter.answered(farthest);
                meter.completed(farthest, clock::now().saturating_duration_since(asked));
                Ok(delivered.bytes)
            }
            Err(error) => {
                meter.failed(error.kind());
                Err(error)
            }
        }
    }

    /// Starts to bring the whole block into memory, if it is not there or on its way; returns once the fetch is under way.
    ///
    /// Waits while too much is being fetched ahead. A failure is silent: the read that needs the block will tell. Cancel-safe.
    pub async fn prefetch(&self, ctx: &Ctx, block: &Block) {
        let span = Span::whole(block);
        let staged = || self.0.stage.as_ref().is_some_and(|stage| stage.holds(block.key.object()));
        let here = || self.0.ram.has_whole(span.block) || self.0.flights.is_running(&span) || staged();
        if block.plain_len == 0 || !self.0.ram.fits(block.plain_len) || here() {
            return;
        }
        // The turn is waited for before the fetch exists: a reader who wants the block meanwhile starts it at once.
        let turn = self.0.ahead.acquire(block.plain_len.into()).await;
        let here = || self.0.ram.has_whole(span.block).then_some(());
        if let Joined::Started(_, ticket) = self.0.flights.join(&block.key, &[span], here) {
            self.start(ctx.class, block, span, ticket, Some(turn));
        }
    }

    /// Keeps a block that this client has just stored, whole, so that reading it back costs nothing.
    pub fn keep(&self, block: &Block, plain: Bytes) {
        self.0.ram.put_whole(block.key.id(), plain);
    }

    /// What was delivered so far, by tier.
    pub fn counts(&self) -> TierCounts {
        self.0.meter.counts()
    }

    /// Bytes of blocks held in memory, and the most that may be, those on their way left out.
    pub fn memory_used(&self) -> u64 {
        self.0.ram.used() + self.0.memory.used()
    }

    /// Where `keys` lie: each owner of any of them, and for each key the owner's nearest tier that holds it.
    ///
    /// The lists are in the order of `keys`; a key the node does not own, or does not hold, is `None`. A node that does not
    /// answer is left out. Empty without a ring.
    pub async fn locate(&self, keys: &[BlockKey]) -> Vec<(Arc<Member>, Vec<Option<Tier>>)> {
        match &self.0.fetcher.nodes {
            Some(nodes) => locate::locate(nodes, keys).await,
            None => Vec::new(),
        }
    }

    /// Asks the owners of `keys` to bring them into their tiers; `progress` hears of every step.
    ///
    /// A node that fails passes its keys on to their next replica. A block counts as fetched only once a node has stored it;
    /// one nobody could store counts as failed, and asking again continues where this ended. Errors: `Unavailable` without a
    /// ring, or with an empty one. Dropping it stops asking; nodes finish what they have begun.
    pub async fn warm(
        &self,
        keys: Vec<BlockKey>,
        progress: impl FnMut(WarmProgress),
    ) -> Result<WarmReport, CacheError> {
        let nodes = self.0.fetcher.nodes.as_ref().ok_or(CacheError::NoNodes)?;
        warm::warm(nodes, self.0.config.warm_batches, keys, progress).await
    }

    async fn miss(&self, class: Class, block: &Block, range: BlockRange) -> Result<Delivered, CacheError> {
        let id = block.key.id();
        let in_ram = |bytes| {
            let mut by_tier = [0; TIERS];
            by_tier[Tier::Ram as usize] = range.len();
            Delivered { bytes, by_tier }
        };
        if let Some(bytes) = self.0.ram.gather(id, range) {
            return Ok(in_ram(bytes));
        }
        let whole = Span::whole(block);
        let read = Read {
            len: block.plain_len,
            range,
            identity: block.codec.is_identity(),
            behind_window: self.0.ram.has_window_before(id, range.start),
        };
        let part = Span { block: id, range: extent(read) };
        let (span, flight) = match self.0.flights.join(&block.key, &[whole, part], || self.0.ram.gather(id, range)) {
            Joined::Elsewhere(bytes) => return Ok(in_ram(bytes)),
            Joined::Running(span, flight) => {
                if class == Class::Foreground {
                    flight.hurry();
                }
                (span, flight)
            }
            Joined::Started(flight, ticket) => {
                self.start(class, block, part, ticket, None);
                (part, flight)
            }
        };
        flight.range(range.start - span.range.start, range.end - span.range.start).await
    }

    /// Fetches `span` in a task of its own. `turn` is held as long as the fetch lasts.
    fn start(&self, class: Class, block: &Block, span: Span, ticket: Ticket<Span>, turn: Option<Permit>) {
        let (inner, block) = (Arc::clone(&self.0), block.clone());
        drop(task::spawn_on(&self.0.runtime, "fetch", async move {
            inner.run(class, &block, span, ticket).await;
            drop(turn);
        }));
    }
}

impl Inner {
    async fn run(&self, class: Class, block: &Block, span: Span, ticket: Ticket<Span>) {
        let _fetching = self.meter.fetching();
        // Encoded bytes, their joined copy and the plain bytes are there together.
        let copies = if block.codec.is_identity() { 1 } else { 3 };
        let _permit = self.memory.acquire(copies * u64::from(span.range.len())).await;
        match self.fetcher.fetch(class, block, span.range, ticket.flight()).await {
            Ok(bytes) if span == Span::whole(block) => self.ram.put_whole(span.block, bytes),
            Ok(bytes) => self.ram.put_windows(span.block, span.range.start, &bytes),
            Err(error) => {
                tracing::debug!(key = %block.key, %error, "a fetch failed");
                return ticket.fail(error);
            }
        }
        // Only now off the list: whoever asks from here on finds the bytes in RAM.
        drop(ticket);
    }
}

impl fmt::Debug for ClientCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCache").field("config", &self.0.config).finish_non_exhaustive()
    }
}
