//! Peers that may hold a block this node lacks, and asking them.
//!
//! Questions are `local` ones: the peer answers from what it holds or is fetching already, so that no chain of nodes comes about.
//! The one exception is a block in demand that a replica lacks: its first owner is to fetch it, or each of its replicas would ask
//! the origin. Two peers that fetch the same block and ask each other would wait in a circle; that is broken where a `local`
//! question is answered ([`crate::NodeCache::read_local`]), and a first owner asks no others.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_cluster::{Member, ViewWatch};
use shoal_net::{Endpoint, GetReply, NetError, WeakEndpoint};
use shoal_runtime::clock;
use shoal_types::{BlockKey, BlockRange, Class, NodeId};
use shoal_wire::{GetRequest, Request, Response, Status};

use crate::avoided::Avoided;
use crate::nodes::Skip;

/// Former owners asked for one block, at most: the one before the last change of the ring, and one more in case two nodes came
/// at once.
const FORMER_MAX: usize = 2;
/// A peer that is late and there is waited for so many times the patience longer, since the alternative is the origin: 1 s by
/// default.
const LATE_PATIENCE: u32 = 4;
/// The same for the first owner of a hot block that it has to fetch for its replica: it waits for the origin's first byte, and
/// a replica that gives up costs the origin another request. 2 s by default.
const FETCH_PATIENCE: u32 = 8;
/// The same for a block that nobody waits for, and for the head of a batch. 5 s by default.
const LEISURE_PATIENCE: u32 = 20;
/// Longest silence within an answer, in times the patience for its head.
const BODY_PATIENCE: u32 = 4;
/// Times a busy peer is asked for a block that nobody waits for, and the least pause between them.
const BUSY_MAX: u32 = 8;
const RETRY_MS_MIN: u16 = 50;

/// The peers of this node as places to find blocks.
#[derive(Debug)]
pub(crate) struct Holders {
    /// None for a node that asks nobody. The endpoint keeps this node alive, not the other way round.
    pub(crate) endpoint: Option<WeakEndpoint>,
    pub(crate) views: ViewWatch,
    pub(crate) me: NodeId,
    /// Owners of a block that keep it.
    pub(crate) replicas: usize,
    /// How long after a change of the ring former owners are asked.
    pub(crate) window: Duration,
    pub(crate) patience: Duration,
    pub(crate) avoided: Avoided,
}

/// Why a block is wanted, as far as that says who may hold it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hints {
    /// Owners the caller chose among; 0 by the plain rule.
    pub(crate) spread: u8,
    /// A peer that said it has the block.
    pub(crate) from: Option<SocketAddr>,
}

/// One peer to ask.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) addr: SocketAddr,
    /// None for a peer that is asked however it fared: it asked to be.
    id: Option<NodeId>,
    /// The block's first owner, which keeps it.
    pub(crate) is_owner: bool,
    /// It is to fetch the block if it lacks it.
    fetches: bool,
}

/// Where a node stands for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The first owner, or a node that sees no ring: one of its own.
    First,
    /// Another of the owners that keep the block.
    Keeper,
    /// Among the owners a hot block is spread over.
    Spread,
    /// None of them.
    Stranger,
}

impl Standing {
    /// Whether the origin is asked for what no peer gives. Not by a node that only spreads a hot block: its reader goes on to the
    /// owners, and sixteen nodes that lose patience with a busy owner must not each cost the origin a request.
    pub(crate) fn asks_the_origin(self) -> bool {
        matches!(self, Standing::First | Standing::Keeper)
    }
}

impl Holders {
    /// What peers are asked through, unless it is closed and gone.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.as_ref()?.upgrade()
    }

    /// Where this node stands for `key`, asked with `spread`.
    pub(crate) fn standing(&self, key: &BlockKey, spread: u8) -> Standing {
        let view = self.views.current();
        if view.members.is_empty() {
            return Standing::First;
        }
        let owners = view.ring.owners(key.id(), self.replicas.max(spread.into()));
        match owners.iter().position(|owner| *owner == self.me) {
            Some(0) => Standing::First,
            Some(place) if place < self.replicas => Standing::Keeper,
            Some(_) => Standing::Spread,
            None => Standing::Stranger,
        }
    }

    /// Whom to ask for `key` before the origin, in this order.
    pub(crate) fn of(&self, key: &BlockKey, hints: Hints) -> Vec<Holder> {
        let view = self.views.current();
        let mut holders: Vec<Holder> = Vec::new();
        if self.endpoint.is_none() {
            return holders;
        }
        let mut add = |new: Holder| {
            if new.id != Some(self.me) && holders.iter().all(|holder| holder.addr != new.addr) {
                holders.push(new);
            }
        };
        let owners = view.owners(key, self.replicas.max(hints.spread.into()));
        let holder = |member: &Arc<Member>| Holder {
            addr: member.addr,
            id: Some(member.id),
            is_owner: owners.first().is_some_and(|first| first.id == member.id),
            fetches: false,
        };
        if let Some(addr) = hints.from {
            let is_owner = owners.first().is_some_and(|first| first.addr == addr);
            add(Holder { is_owner, ..self.at(addr) });
        }
        let Some(place) = owners.iter().position(|owner| owner.id == self.me) else { return holders };
        let first = holder(&owners[0]);
        add(Holder { fetches: hints.spread > 0, ..first });
        if clock::now().saturating_duration_since(view.changed_at) < self.window {
            view.former(key, place + 1, FORMER_MAX).iter().map(holder).for_each(add);
        }
        holders
    }

    /// The peer at `addr`, which offers its blocks.
    pub(crate) fn at(&self, addr: SocketAddr) -> Holder {
        Holder { addr, id: None, is_owner: false, fetches: false }
    }

    /// Asks `holder` for bytes `range` of `key`; gives the answer with its head, which says `Ok`. Cancel-safe.
    pub(crate) async fn ask(
        &self,
        holder: &Holder,
        key: &BlockKey,
        range: BlockRange,
        class: Class,
    ) -> Result<GetReply, Skip> {
        let Some(endpoint) = self.endpoint() else { return Err(Skip::answered(Status::NotFound)) };
        let epoch = self.views.current().epoch();
        let local = !holder.fetches;
        let request = GetRequest { class, epoch, local, ..GetRequest::new(key.clone(), range) };
        for _ in 0..BUSY_MAX {
            let reply = self.answer(&endpoint, holder, &request).await?;
            match reply.head.status {
                Status::Ok => return Ok(reply),
                // Nobody waits for this block: better late than from the origin.
                Status::Busy if class >= Class::WarmUp => {
                    clock::sleep(Duration::from_millis(reply.head.retry_ms.max(RETRY_MS_MIN).into())).await;
                }
                status => return Err(Skip::answered(status)),
            }
        }
        Err(Skip::answered(Status::Busy))
    }

    /// One answer. A peer that is late is asked whether it is there: one that says nothing to that either is hung and unwell, and
    /// one that only has much to do is waited for a while longer.
    async fn answer(&self, endpoint: &Endpoint, holder: &Holder, request: &GetRequest) -> Result<GetReply, Skip> {
        let failed = |error: NetError| Skip::failed(&error);
        let mut answer = pin!(endpoint.get(holder.addr, request));
        if let Ok(reply) = clock::timeout(self.patience, answer.as_mut()).await {
            return reply.map_err(failed);
        }
        let holds = tokio::select! {
            biased;
            reply = answer.as_mut() => return reply.map_err(failed),
            holds = self.holds(endpoint, holder, &request.key) => holds.ok_or_else(Skip::silent)?,
        };
        let times = match request.class {
            // What it neither has nor fetches as its owner it will not have.
            _ if !holds && !holder.is_owner => return Err(Skip::answered(Status::NotFound)),
            Class::WarmUp | Class::Background => LEISURE_PATIENCE,
            Class::Foreground | Class::Fill if holder.fetches => FETCH_PATIENCE,
            Class::Foreground | Class::Fill => LATE_PATIENCE,
        };
        match clock::timeout(self.patience * times, answer).await {
            Ok(reply) => reply.map_err(failed),
            Err(_) => Err(Skip { unwell: false, ..Skip::silent() }),
        }
    }

    /// Whether `holder` holds the block; `None` if it does not say.
    async fn holds(&self, endpoint: &Endpoint, holder: &Holder, key: &BlockKey) -> Option<bool> {
        let request = Request::Has { keys: vec![key.clone()] };
        match endpoint.call(holder.addr, &request, self.patience).await {
            Ok(Response::Has { tiers }) => Some(tiers.first().is_some_and(Option::is_some)),
            Ok(_) | Err(NetError::Answered { .. }) => Some(false),
            Err(_) => None,
        }
    }

    /// Longest silence within an answer.
    pub(crate) fn body_patience(&self) -> Duration {
        self.patience * BODY_PATIENCE
    }

    /// Longest silence of a peer from which many blocks come that nobody waits for.
    pub(crate) fn leisure(&self) -> Duration {
        self.patience * LEISURE_PATIENCE
    }

    /// False for a peer that failed a moment ago.
    pub(crate) fn may_ask(&self, holder: &Holder) -> bool {
        holder.id.is_none_or(|id| self.avoided.may_ask(id, clock::now()))
    }

    /// Remembers how asking `holder` at `asked` went.
    pub(crate) fn note(&self, holder: &Holder, asked: Instant, result: &Result<(), Skip>) {
        let Some(id) = holder.id else { return };
        match result {
            Err(Skip { unwell: true, .. }) => self.avoided.failed(id, asked, clock::now()),
            Ok(()) | Err(_) => self.avoided.answered(id, clock::now()),
        }
    }
}
