//! The node's side: its own tiers, then peers that may have the block, then the origin, once for the whole cluster.
//!
//! A miss starts one fill of the whole block, however many ask and whichever bytes they ask for. The fill is a task of its own:
//! it streams to every waiter while it collects, outlives whoever asked first, and stays visible until the store has the
//! block. A small read far into a missed block may get its bytes ahead of it ([`FillPolicy`]).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_cluster::ViewWatch;
use shoal_net::Endpoint;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::task;
use shoal_store::{InsertHint, Store};
use shoal_types::{BlockId, BlockKey, BlockRange, Class, Ctx, ErrorKind, NodeId, Tier};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::avoided::Avoided;
use crate::deadline::in_time;
use crate::demand::Demand;
use crate::disk_turns::DiskTurns;
use crate::error::CacheError;
use crate::fill::{Fill, Filled, Typical};
use crate::flight::Flight;
use crate::handover::{HandOver, HandsOver};

use crate::holders::{Hints, Holders, Standing};
use crate::in_parts::{self, InParts};
use crate::metrics::{Meter, TierCounts};
use crate::node_metrics::NodeMeter;
use crate::origins::Origins;
use crate::part::{FillPolicy, PARTS_MAX, Part, comes_first};
use crate::pull::Pull;
use crate::room::{Room, Turn};
use crate::single_flight::{Flights, Joined, Ticket};
use crate::stream::{BlockStream, OnTheWay, Reading, Source};

/// How a node's cache works. [`NodeCacheConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct NodeCacheConfig {
    /// This node in the ring.
    pub me: NodeId,
    /// How many owners of a block may fetch it from the origin, at least 1. Default 2: the owner and one replica, so that a
    /// dead owner costs nobody more than one failed request.
    pub replicas: usize,
    /// Bytes of blocks on their way into the store, at most; a quarter of it is for class foreground alone. Default 256 MiB: 64
    /// blocks of 4 MiB, which fill a 25 Gbit/s link at 80 ms.
    pub fill_memory: u64,
    /// Longest silence of the origin before a fill fails. Default 90 s: longer than the object store's own 60 s, so that its
    /// error, which says more, comes first.
    pub origin_timeout: Duration,
    /// Blocks of classes warm-up and background fetched at once, at most. Default 16: enough to fill a 10 Gbit/s link at 50 ms,
    /// and a quarter of `fill_memory`, so that a warm-up leaves room for readers.
    pub warm_fills: usize,
    /// What a small read of a missed block gets first. Default: its own bytes.
    pub fill: FillPolicy,
    /// How long after a change of the ring, or this node's start, the former owners of a missed block are asked before the
    /// origin. Default 10 min, in which a node of 1 TiB can be handed its share at 2 GB/s; 0 never asks them.
    pub handover_window: Duration,
    /// How long a ring must have been the same before blocks are handed over. Default 5 s: a node that restarts is back by then,
    /// and several that join together are one change.
    pub handover_settle: Duration,
    /// How long a peer's answer may take to begin before the peer is asked whether it is there; one that does not say so in as
    /// long is hung. Everything else a peer is waited for is a multiple. Default 250 ms: a peer answers from what it holds
    /// within a few.
    pub peer_patience: Duration,
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
            fill: FillPolicy::default(),
            handover_window: Duration::from_secs(600),
            handover_settle: Duration::from_secs(5),
            peer_patience: Duration::from_millis(250),
        }
    }
}

/// How [`NodeCache::warm`] came to have the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmed {
    /// It was there.
    Already,
    /// It came from a peer or the origin; its bytes.
    Fetched(u64),
}

/// A node's cache: its own tiers and the places behind them. Cheap to clone.
#[derive(Clone)]
pub struct NodeCache(Arc<Inner>);

struct Inner {
    config: NodeCacheConfig,
    store: Store,
    origins: Origins,
    holders: Holders,
    fills: Flights<BlockId>,
    parts: Flights<Part>,
    part_slots: Arc<Semaphore>,
    room: Room,
    turns: Arc<DiskTurns>,
    typical: Typical,
    demand: Demand,
    meter: Arc<Meter>,
    counters: NodeMeter,
    runtime: Handle,
}

/// Looks into the store before a fill is started in any case: a block may come between two looks, and a damaged one may go.
const LOOKS: usize = 3;

/// For whom a fill is started.
struct Want {
    class: Class,
    hints: Hints,
    /// Room taken before, unless somebody waits for the bytes.
    turn: Option<Turn>,
    /// True if the block must be kept for good, whoever else keeps it.
    for_good: bool,
}

impl Want {
    fn read(class: Class, spread: u8, turn: Option<Turn>) -> Want {
        Want { class, hints: Hints { spread, from: None }, turn, for_good: false }
    }
}

impl NodeCache {
    /// A cache over `store` and `origins`. Peers are asked through `endpoint`, which is not kept
    /// alive by that; without one they never are. Fills run on the tokio
    /// runtime this is called in. Panics outside a runtime.
    pub fn new(
        config: NodeCacheConfig,
        store: Store,
        origins: Origins,
        views: ViewWatch,
        endpoint: Option<Endpoint>,
        registry: &Registry,
    ) -> NodeCache {
        let holders = Holders {
            endpoint: endpoint.as_ref().map(Endpoint::downgrade),
            views,
            me: config.me,
            replicas: config.replicas.max(1),
            window: config.handover_window,
            patience: config.peer_patience,
            avoided: Avoided::new(config.peer_patience),
        };
        let dirs = store.stats().dirs.len();
        NodeCache(Arc::new(Inner {
            store,
            origins,
            holders,
            fills: Flights::default(),
            parts: Flights::default(),
            part_slots: Arc::new(Semaphore::new(PARTS_MAX)),
            room: Room::new(config.fill_memory, config.warm_fills),
            turns: Arc::new(DiskTurns::new(dirs)),
            typical: Typical::default(),
            demand: Demand::new(),
            meter: Arc::new(Meter::new(registry)),
            counters: NodeMeter::new(registry),
            runtime: Handle::current(),
            config,
        }))
    }

    /// Bytes `range` of block `key`: from this node's tiers, else, if it is one of the block's owners, from peers or the origin.
    ///
    /// `range` is in stored bytes and is clamped to the block. Returns once the block's length is known; bytes follow in the
    /// stream. `ctx.deadline` bounds the time to get there. Errors: [`CacheError::NotOwner`]; `NotFound` if the origin has no
    /// such object; `Timeout`; [`CacheError::Busy`] for a class below foreground; what the origin says. Cancel-safe: a fill that
    /// was started goes on.
    pub async fn read(&self, ctx: &Ctx, key: &BlockKey, range: BlockRange) -> Result<BlockStream, CacheError> {
        self.read_spread(ctx, key, range, 0).await
    }

    /// [`NodeCache::read`] for a caller that chose among the first `spread` owners because the block is hot: those of them that
    /// would not keep the block take it from its first owner, and hold it in RAM only.
    pub async fn read_spread(
        &self,
        ctx: &Ctx,
        key: &BlockKey,
        range: BlockRange,
        spread: u8,
    ) -> Result<BlockStream, CacheError> {
        let asked = clock::now();
        let found = in_time(ctx, key, self.find(ctx.class, key, range, spread)).await;
        match found {
            Ok(source) => Ok(BlockStream::new(source, range, asked, Arc::clone(&self.0.meter))),
            Err(error) => {
                self.0.meter.failed(error.kind());
                Err(error)
            }
        }
    }

    /// Bytes `range` of block `key` if this node holds the block or is fetching it already; `None` else, at once.
    ///
    /// Asks neither a peer nor the origin. A fill that may itself be waiting for a peer is joined by the block's first owner
    /// only: two nodes that ask each other so never wait in a circle. Errors: what ends the fill that was joined; `Timeout`
    /// after `ctx.deadline`. Cancel-safe.
    pub async fn read_local(
        &self,
        ctx: &Ctx,
        key: &BlockKey,
        range: BlockRange,
    ) -> Result<Option<BlockStream>, CacheError> {
        let asked = clock::now();
        let source = in_time(ctx, key, self.find_local(ctx.class, key, range)).await?;
        Ok(source.map(|source| BlockStream::new(source, range, asked, Arc::clone(&self.0.meter))))
    }

    /// Counts a get of `key`; gives how many owners its readers should choose among, 0 for the plain rule.
    pub fn asked(&self, key: &BlockKey) -> u8 {
        let members = self.0.holders.views.current().ring.len();
        let spread = self.0.demand.asked(key.id(), members, clock::now());
        if spread > 0 {
            self.0.counters.hinted();
        }
        spread
    }

    /// The nearest of this node's tiers that holds each block, in the order of `keys`.
    pub fn has(&self, keys: &[BlockKey]) -> Vec<Option<Tier>> {
        keys.iter().map(|key| self.0.store.contains(key)).collect()
    }

    /// Brings the block into this node's store, if it is not there; returns once it is kept.
    ///
    /// `from` is a peer that has it: it is asked first, and a block it gives is kept whoever owns it. Waits its turn behind at
    /// most `warm_fills` others. Errors: as [`NodeCache::read`], and why the store did not keep the block. Cancel-safe: a fill
    /// that was started goes on.
    pub async fn warm(&self, ctx: &Ctx, key: &BlockKey, from: Option<SocketAddr>) -> Result<Warmed, CacheError> {
        let brought = in_time(ctx, key, self.bring(ctx.class, key, from)).await;
        brought.inspect_err(|error| self.0.meter.failed(error.kind()))
    }

    /// Takes those of `keys` from the peer `from` that are small and not here, many in one request; gives how many blocks came,
    /// their bytes, and the keys that are left to [`NodeCache::warm`].
    ///
    /// Whatever the peer does, no error: it leaves more keys. Cancel-safe.
    pub async fn take_small(&self, ctx: &Ctx, keys: Vec<BlockKey>, from: SocketAddr) -> (u64, u64, Vec<BlockKey>) {
        let Inner { holders, room, store, meter, counters, fills, .. } = &*self.0;
        let missing = |key: &BlockKey| store.contains(key).is_none() && !fills.is_running(&key.id());
        let (missing, mut left) = keys.into_iter().partition(missing);
        let from = holders.at(from);
        let pull = Pull { class: ctx.class, from: &from, holders, room, store, meter, counters };
        let mut pulled = pull.small(missing).await;
        left.append(&mut pulled.left);
        (pulled.blocks, pulled.bytes, left)
    }

    /// Hands blocks over to the nodes that became their first owners, after every change of the ring once it has been the same
    /// for `handover_settle`, this node's start included; until `shutdown`. `progress` shows the newest hand-over.
    ///
    /// For one task of its own. Without an endpoint there is nothing to do.
    pub async fn follow_ring(&self, progress: &watch::Sender<HandOver>, shutdown: &Shutdown) {
        match self.hands_over(progress) {
            Some(hands_over) => hands_over.follow(shutdown).await,
            None => shutdown.wait().await,
        }
    }

    /// Hands every block in the cache directories over to its owner, in at most `limit`; gives how that went, and shows how it
    /// goes in `progress`. For a node that is out of the ring already, and still among its members.
    pub async fn drain(&self, limit: Duration, progress: &watch::Sender<HandOver>) -> HandOver {
        if let Some(hands_over) = self.hands_over(progress) {
            hands_over.drain(limit).await;
        }
        progress.borrow().clone()
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

    fn hands_over<'a>(&'a self, progress: &'a watch::Sender<HandOver>) -> Option<HandsOver<'a>> {
        let Inner { config, store, holders, counters, .. } = &*self.0;
        let endpoint = holders.endpoint()?;
        let (me, settle, views) = (config.me, config.handover_settle, &holders.views);
        Some(HandsOver { me, settle, store, views, endpoint, counters, progress })
    }

    async fn find(&self, class: Class, key: &BlockKey, range: BlockRange, spread: u8) -> Result<Source, CacheError> {
        let inner = &self.0;
        for look in 1..=LOOKS {
            let instead = || {
                let (cache, key) = (self.clone(), key.clone());
                async move { cache.instead(class, &key, spread).await }.boxed()
            };
            if let Some(source) = inner.local(class, key, range, instead).await {
                return Ok(source);
            }
            let mut turn = None;
            // Who joins needs no room, and who may not start a fill gets none.
            if !inner.fills.is_running(&key.id()) && inner.holders.standing(key, spread) != Standing::Stranger {
                if comes_first(inner.config.fill, class, range)
                    && let Some(source) = self.part(key, range, spread).await?
                {
                    return Ok(source);
                }
                turn = self.turn(class, key).await?;
            }
            let stored = || (look < LOOKS).then(|| inner.store.contains(key)).flatten();
            if let Some(flight) = self.fill(key, Want::read(class, spread, turn), stored)? {
                let head = flight.head().await?;
                return Ok(Source::Flight(OnTheWay { flight, head, start: 0 }));
            }
        }
        unreachable!("the last look always ends in a fill")
    }

    async fn find_local(&self, class: Class, key: &BlockKey, range: BlockRange) -> Result<Option<Source>, CacheError> {
        let inner = &self.0;
        for _ in 0..LOOKS {
            // Who asked for no more than what is here goes on elsewhere.
            let instead = || {
                let lost = CacheError::NotOwner { key: key.clone() };
                async move { Err(lost) }.boxed()
            };
            if let Some(source) = inner.local(class, key, range, instead).await {
                return Ok(Some(source));
            }
            if let Some(flight) = inner.fills.running(&key.id()) {
                if !flight.is_settled() && inner.holders.standing(key, 0) != Standing::First {
                    return Ok(None);
                }
                let head = flight.head().await?;
                return Ok(Some(Source::Flight(OnTheWay { flight, head, start: 0 })));
            }
            // A fill may have ended between the two looks.
            if inner.store.contains(key).is_none() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The bytes of a block that the store has lost while it was read.
    async fn instead(&self, class: Class, key: &BlockKey, spread: u8) -> Result<OnTheWay, CacheError> {
        let turn = self.turn(class, key).await?;
        let flight = self.fill(key, Want::read(class, spread, turn), || None)?;
        let flight = flight.ok_or_else(|| CacheError::Abandoned { key: key.clone() })?;
        let head = flight.head().await?;
        Ok(OnTheWay { flight, head, start: 0 })
    }

    /// Room for a fill that a reader of `class` starts, before it is started; none for foreground, which takes it within its fill.
    async fn turn(&self, class: Class, key: &BlockKey) -> Result<Option<Turn>, CacheError> {
        if class == Class::Foreground {
            return Ok(None);
        }
        if let Err(retry) = self.0.room.admits(class) {
            self.0.counters.refused(class);
            return Err(CacheError::Busy { key: key.clone(), retry });
        }
        let guess = self.0.typical.guess(key, BlockRange::WHOLE);
        Ok(Some(self.0.room.turn(class, guess.into()).await))
    }

    /// The bytes of a small read ahead of their block; `None` if they have to come with it.
    async fn part(&self, key: &BlockKey, range: BlockRange, spread: u8) -> Result<Option<Source>, CacheError> {
        let inner = &self.0;
        let part = Part { block: key.id(), range };
        let room = || {
            let slot = Arc::clone(&inner.part_slots).try_acquire_owned().ok()?;
            Some((slot, inner.room.try_urgent(range.len().into())?))
        };
        let Some((slot, turn)) = room() else { return Ok(None) };
        let whole = || inner.fills.is_running(&key.id()).then_some(());
        let (part, flight) = match inner.parts.join(key, &[part], whole) {
            // Another part of the block: the whole block is wanted, it seems.
            Joined::Running(running, _) if !running.covers(range) => return Ok(None),
            Joined::Running(running, flight) => (running, flight),
            Joined::Elsewhere(()) => return Ok(None),
            Joined::Started(flight, ticket) => {
                let (cache, key) = (self.clone(), key.clone());
                drop(task::spawn_on(&inner.runtime, "part", async move {
                    cache.run_part(key, part, spread, ticket, turn).await;
                    drop(slot);
                }));
                (part, flight)
            }
        };
        match flight.head().await {
            Ok(head) => Ok(Some(Source::Flight(OnTheWay { flight, head, start: part.range.start }))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            // The request for the whole block says what is wrong, or succeeds.
            Err(_) => Ok(None),
        }
    }

    /// Fetches a part, then starts the fill of its block.
    async fn run_part(&self, key: BlockKey, part: Part, spread: u8, ticket: Ticket<Part>, turn: Turn) {
        let hints = Hints { spread, from: None };
        let may_fetch = self.0.holders.standing(&key, spread).asks_the_origin();
        let fill = self.0.new_fill(&key, Class::Foreground, part.range, hints, may_fetch);
        match fill.run(ticket.flight(), Some(turn)).await {
            // Its bytes are with the readers: they hold no more room.
            Ok(_) => self.0.counters.part(),
            Err(error) => {
                tracing::debug!(%key, %error, "a part of a block did not come ahead of it");
                return ticket.fail(error);
            }
        }
        // The part stays listed until the fill is: another read meanwhile starts the fill instead of one more part.
        let started = match self.turn(Class::Fill, &key).await {
            Ok(turn) => self.fill(&key, Want::read(Class::Fill, spread, turn), || self.0.store.contains(&key)),
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            tracing::debug!(%key, %error, "the block behind a part is not fetched");
        }
        drop(ticket);
    }

    async fn bring(&self, class: Class, key: &BlockKey, from: Option<SocketAddr>) -> Result<Warmed, CacheError> {
        let inner = &self.0;
        if inner.store.contains(key).is_some() {
            inner.keep(key).await?;
            return Ok(Warmed::Already);
        }
        // The turn is waited for before the fill exists: a reader who wants the block meanwhile starts it at once.
        let guess = inner.typical.guess(key, BlockRange::WHOLE);
        let turn = Some(inner.room.turn(class, guess.into()).await);
        let want = Want { class, hints: Hints { spread: 0, from }, turn, for_good: true };
        let flight = self.fill(key, want, || inner.store.contains(key))?;
        let Some(flight) = flight else {
            inner.keep(key).await?;
            return Ok(Warmed::Already);
        };
        flight.kept().await?;
        inner.keep(key).await?;
        Ok(Warmed::Fetched(flight.head().await?.len.into()))
    }

    /// The fill of `key`, started if nobody has; `None` if `stored` says it is here by now.
    fn fill(
        &self,
        key: &BlockKey,
        want: Want,
        stored: impl FnOnce() -> Option<Tier>,
    ) -> Result<Option<Arc<Flight>>, CacheError> {
        let Hints { spread, from } = want.hints;
        let may_start = from.is_some() || self.0.holders.standing(key, spread) != Standing::Stranger;
        // A node that is no owner still joins a fill that runs, and starts none.
        let elsewhere = || match stored() {
            Some(_) => Some(Ok(())),
            None if !may_start => Some(Err(CacheError::NotOwner { key: key.clone() })),
            None => None,
        };
        match self.0.fills.join(key, &[key.id()], elsewhere) {
            Joined::Running(_, flight) => Ok(Some(flight)),
            Joined::Elsewhere(stored) => stored.map(|()| None),
            Joined::Started(flight, ticket) => {
                let (inner, key) = (Arc::clone(&self.0), key.clone());
                drop(task::spawn_on(&self.0.runtime, "fill", async move { inner.run(key, want, ticket).await }));
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

impl Inner {
    /// What the store has. Its failures are misses: other places have the block too.
    ///
    /// A large range that is not in RAM comes in parts, so that the first bytes are on their way while the others are read; should
    /// the store lose the block meanwhile, the rest comes from `instead`. A block that is asked for again and again is read whole:
    /// only then the store may keep it in RAM; what a lower class asks for is not kept there, and read in its turns.
    async fn local(
        &self,
        class: Class,
        key: &BlockKey,
        range: BlockRange,
        instead: impl FnOnce() -> BoxFuture<'static, Result<OnTheWay, CacheError>>,
    ) -> Option<Source> {
        if let Some(found) = self.store.read_ram(key, range) {
            return Some(Source::Found(found));
        }
        let repeated = || self.demand.is_repeated(key.id(), clock::now());
        let first = if class == Class::Foreground && repeated() { range } else { in_parts::first(range) };
        let turn = self.turns.turn(class).await;
        let found = self.store.read(key, first).await.unwrap_or_else(|error| {
            tracing::debug!(%key, %error, "the store failed to read a block; taking it from elsewhere");
            None
        })?;
        drop(turn);
        let rest = BlockRange { start: first.end, end: range.end }.clamp(found.block_len);
        if rest.is_empty() {
            return Some(Source::Found(found));
        }
        let parts = InParts::start(self.store.clone(), Arc::clone(&self.turns), class, key.clone(), rest).await;
        Some(Source::Stored(found, Reading { parts, instead: instead() }))
    }

    /// A block that is in RAM, perhaps because another node keeps it, is kept here for good.
    async fn keep(&self, key: &BlockKey) -> Result<(), CacheError> {
        if self.store.contains(key) != Some(Tier::Ram) {
            return Ok(());
        }
        let Some(found) = self.store.read_ram(key, BlockRange::WHOLE) else { return Ok(()) };
        let kept = self.store.insert_with(key, found.bytes, InsertHint { warm: true }).await;
        kept.map_err(|source| CacheError::Store { key: key.clone(), source: Arc::new(source) })
    }

    fn new_fill<'a>(
        &'a self,
        key: &'a BlockKey,
        class: Class,
        range: BlockRange,
        hints: Hints,
        may_fetch: bool,
    ) -> Fill<'a> {
        Fill {
            key,
            class,
            range,
            from: self.holders.of(key, hints),
            may_fetch,
            holders: &self.holders,
            origins: &self.origins,
            room: &self.room,
            store: &self.store,
            typical: &self.typical,
            patience: self.config.origin_timeout,
            meter: &self.meter,
            counters: &self.counters,
        }
    }

    /// One fill from its start to where the store has the block.
    async fn run(self: Arc<Self>, key: BlockKey, want: Want, ticket: Ticket<BlockId>) {
        let _fetching = self.meter.fetching();
        let standing = self.holders.standing(&key, want.hints.spread);
        let may_fetch = standing.asks_the_origin();
        let fill = self.new_fill(&key, want.class, BlockRange::WHOLE, want.hints, may_fetch);
        match fill.run(ticket.flight(), want.turn).await {
            Ok(Filled { bytes, turn, owner_keeps }) => {
                let elsewhere = standing == Standing::Spread || standing == Standing::Keeper && owner_keeps;
                let kept = if elsewhere && !want.for_good {
                    self.store.insert_ram(&key, bytes);
                    Ok(())
                } else {
                    self.store.insert_with(&key, bytes, InsertHint { warm: want.for_good }).await
                };
                if let Err(error) = &kept {
                    log_unkept(&key, error.kind(), error);
                }
                let error = |source| CacheError::Store { key: key.clone(), source: Arc::new(source) };
                ticket.flight().keep(kept.map_err(error));
                drop((ticket, turn));
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
