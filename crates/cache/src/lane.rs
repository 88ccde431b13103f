//! One place that was asked for bytes of a block, from the ask to the last byte.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::future::BoxFuture;
use shoal_cluster::Member;
use shoal_net::{Body, Endpoint, NetError};
use shoal_runtime::clock;
use shoal_runtime::ranked::RankedPermit;
use shoal_types::{BlockRange, Tier};
use shoal_wire::{GetHead, GetRequest, Status};

use crate::arrival::Arrival;
use crate::error::CacheError;
use crate::intake::Intake;
use crate::latency::{SMALL_ANSWER, Wait};
use crate::nodes::Skip;
use crate::origin::OriginBody;
use crate::standing::Standing;

/// How a node's answer begins.
pub(crate) enum Opened {
    /// A small one, all of it.
    All(GetHead, BytesMut),
    /// A larger one, or a refusal.
    Begun(GetHead, Body),
}

/// What is awaited of a place that was asked.
pub(crate) type Opening<'a, T> = BoxFuture<'a, T>;

/// How far a lane is.
pub(crate) enum State<'a> {
    /// Not asked yet.
    Idle,
    Opening(Opening<'a, Result<Opened, NetError>>),
    Reading(Body),
    OpeningOrigin(Opening<'a, Result<OriginBody, CacheError>>),
    ReadingOrigin(OriginBody),
}

/// Which place a lane asks.
#[derive(Clone)]
pub(crate) enum Place {
    /// A node.
    Node(Arc<Member>, Arc<Standing>),
    /// The object store.
    Origin,
}

/// What a lane asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The bytes, from wherever the place has to get them.
    Full,
    /// What the node holds itself.
    Local,
}

/// What is wrong with a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its node does not say anything.
    Hung,
    /// Its node is there, holds the block and gives nothing.
    Stuck,
    /// Was stuck, or fetching, so long that somebody else was asked in full.
    GivenUp,
    /// It gives little.
    Trickling,
}

/// One place that was asked.
pub(crate) struct Lane<'a> {
    pub(crate) from: Place,
    pub(crate) ask: Ask,
    pub(crate) state: State<'a>,
    /// What it was asked for, and the next byte it gives.
    pub(crate) wanted: BlockRange,
    pub(crate) pos: u32,
    pub(crate) asked: Instant,
    /// When its body began, and when it last gave something.
    pub(crate) began: Instant,
    pub(crate) heard: Instant,
    /// How long its answer may take to begin.
    pub(crate) bound: Duration,
    /// When it is to be looked into.
    pub(crate) look_at: Instant,
    pub(crate) tier: Tier,
    pub(crate) fault: Option<Fault>,
    /// It said that it is there and fetching.
    pub(crate) fetching: bool,
    /// Asked while another lane lives; so many bytes.
    pub(crate) hedge: Option<u32>,
    /// For its bytes, at its node.
    pub(crate) room: Option<RankedPermit>,
}

/// What a lane did.
pub(crate) enum LaneEvent {
    /// A node's answer began, or did not.
    Opened(Result<Opened, NetError>),
    /// The origin's answer began, or did not.
    OpenedOrigin(Result<OriginBody, CacheError>),
    /// The next bytes.
    Bytes(Arrival),
    /// It has nothing more to give.
    Ended,
    /// A node's body broke off.
    Failed(Skip),
    /// The origin's did.
    OriginFailed(CacheError),
}

impl<'a> Lane<'a> {
    pub(crate) fn new(from: Place, wanted: BlockRange, asked: Instant, bound: Duration) -> Lane<'a> {
        Lane {
            from,
            ask: Ask::Full,
            state: State::Idle,
            wanted,
            pos: wanted.start,
            asked,
            began: asked,
            heard: asked,
            bound,
            look_at: asked + bound,
            tier: Tier::Origin,
            fault: None,
            fetching: false,
            hedge: None,
            room: None,
        }
    }

    /// What it does next. Cancel-safe: a read that was dropped has lost nothing.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LaneEvent> {
        match &mut self.state {
            State::Idle => Poll::Ready(LaneEvent::Ended),
            State::Opening(opening) => opening.as_mut().poll(cx).map(LaneEvent::Opened),
            State::OpeningOrigin(opening) => opening.as_mut().poll(cx).map(LaneEvent::OpenedOrigin),
            State::Reading(body) => pin!(body.next()).poll(cx).map(|next| match next {
                Ok(Some(bytes)) => LaneEvent::Bytes(Arrival::Own(bytes)),
                Ok(None) => LaneEvent::Ended,
                Err(error) => LaneEvent::Failed(Skip::failed(&error)),
            }),
            State::ReadingOrigin(body) => pin!(body.next()).poll(cx).map(|next| match next {
                Ok(Some(bytes)) => LaneEvent::Bytes(Arrival::Borrowed(bytes)),
                Ok(None) => LaneEvent::Ended,
                Err(error) => LaneEvent::OriginFailed(error),
            }),
        }
    }

    /// Bytes it gave.
    pub(crate) fn given(&self) -> u32 {
        self.pos - self.wanted.start
    }

    /// How long it has given nothing.
    pub(crate) fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// True while a node's body comes.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// True if its node has the block itself.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.tier, Tier::Ram | Tier::Nvme)
    }

    /// What the pace of its body is compared with.
    pub(crate) fn pace(&self) -> Wait {
        if self.holds() { Wait::Held } else { Wait::Fetched }
    }
}

/// Asks one node. Owns all it needs but the socket.
pub(crate) async fn open(endpoint: &Endpoint, addr: SocketAddr, request: GetRequest) -> Result<Opened, NetError> {
    if request.range.len() <= SMALL_ANSWER {
        let (head, bytes) = endpoint.fetch(addr, request).await?;
        return Ok(Opened::All(head, bytes));
    }
    let reply = endpoint.get(addr, &request).await?;
    Ok(Opened::Begun(reply.head, reply.body))
}

/// An answer is followed only if it is one, and of the range asked for.
pub(crate) fn believe(head: &GetHead, wanted: BlockRange, intake: &mut Intake<'_>) -> Result<(), Skip> {
    match head.status {
        Status::Ok => {}
        Status::Busy => return Err(Skip::busy(Duration::from_millis(head.retry_ms.into()))),
        status => return Err(Skip::answered(status)),
    }
    if intake.accept(head.block_len).is_err() || head.range != wanted.clamp(head.block_len) {
        return Err(Skip::corrupt());
    }
    Ok(())
}

/// The output of `future` if it is ready within `limit`; the future lives on. Sets a timer only if it is not ready at once.
pub(crate) async fn within<F: Future>(limit: Duration, mut future: Pin<&mut F>) -> Option<F::Output> {
    if let Poll::Ready(output) = futures::poll!(future.as_mut()) {
        return Some(output);
    }
    clock::timeout(limit, future).await.ok()
}
