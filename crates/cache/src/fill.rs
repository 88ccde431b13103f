//! One block, or a part of one, from peers and then the origin into memory, streamed to its readers on the way.
//!
//! Stored bytes are the same everywhere: a place that breaks off is continued by the next one from the byte reached.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shoal_runtime::clock;
use shoal_store::Store;
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class, Tier};
use shoal_wire::GetHead;

use crate::error::CacheError;
use crate::flight::{Flight, Head};
use crate::holders::{Holder, Holders};
use crate::metrics::{Meter, SkipReason};
use crate::node_metrics::NodeMeter;
use crate::nodes::Skip;
use crate::origin;
use crate::origins::Origins;
use crate::room::{Room, Turn};

/// A guess at a block's length before a place has told it, in bytes: the largest seen. Starts at a volume's usual 4 MiB.
#[derive(Debug)]
pub(crate) struct Typical(AtomicU32);

impl Default for Typical {
    fn default() -> Typical {
        Typical(AtomicU32::new(4 << 20))
    }
}

impl Typical {
    /// Bytes to expect of `range` of `key`.
    pub(crate) fn guess(&self, key: &BlockKey, range: BlockRange) -> u32 {
        match key.span() {
            BlockSpan::Part { len, .. } => range.clamp(*len).len(),
            BlockSpan::Whole if range == BlockRange::WHOLE => self.0.load(Ordering::Relaxed),
            BlockSpan::Whole => range.len(),
        }
    }

    fn seen(&self, len: u32) {
        self.0.fetch_max(len, Ordering::Relaxed);
    }
}

/// What a fill needs.
pub(crate) struct Fill<'a> {
    pub(crate) key: &'a BlockKey,
    pub(crate) class: Class,
    /// The bytes wanted; clamped to the block.
    pub(crate) range: BlockRange,
    /// Peers to ask before the origin.
    pub(crate) from: Vec<Holder>,
    /// True if the origin may be asked.
    pub(crate) may_fetch: bool,
    pub(crate) holders: &'a Holders,
    pub(crate) origins: &'a Origins,
    pub(crate) room: &'a Room,
    /// Where the block goes, which has the memory for it.
    pub(crate) store: &'a Store,
    pub(crate) typical: &'a Typical,
    /// Longest silence of the origin.
    pub(crate) patience: Duration,
    pub(crate) meter: &'a Meter,
    pub(crate) counters: &'a NodeMeter,
}

/// Bytes that have come, and the room they take.
pub(crate) struct Filled {
    pub(crate) bytes: Bytes,
    pub(crate) turn: Turn,
    /// True if all of them came from the block's first owner, which keeps it.
    pub(crate) owner_keeps: bool,
}

/// What has come so far.
struct Intake<'a> {
    flight: &'a Flight,
    turn: Turn,
    /// Bytes in the block; unknown until a place has told.
    block_len: Option<u32>,
    /// Where the wanted bytes end, once the block's length is known.
    end: u32,
    /// The next byte to come.
    at: u32,
    /// Bytes that came from the block's first owner.
    from_owner: u32,
    /// True once a peer has given some.
    taken: bool,
}

impl Intake<'_> {
    fn is_complete(&self) -> bool {
        self.block_len.is_some() && self.at >= self.end
    }

    fn push(&mut self, bytes: Bytes, tier: Tier) {
        self.at += bytes.len() as u32;
        self.flight.push(bytes, tier);
    }
}

impl Fill<'_> {
    /// Brings the wanted bytes to `flight`, whose readers get them as they come. `turn` is room taken before; without one it is
    /// taken here, as for somebody who waits.
    ///
    /// Errors: `NotOwner` if no peer has the block and the origin is not for this node to ask; `NoOrigin`; those of
    /// [`origin::open`] and of its body; `Corrupt` if places disagree about the block. The flight is left for the caller to fail.
    pub(crate) async fn run(mut self, flight: &Flight, turn: Option<Turn>) -> Result<Filled, CacheError> {
        // Charged before a request is sent, so that no answer waits, half read, for memory that others hold.
        let guess = u64::from(self.typical.guess(self.key, self.range));
        let turn = match turn {
            Some(turn) => turn,
            None => self.room.urgent(guess).await,
        };
        let (at, end) = (self.range.start, self.range.end);
        let mut intake = Intake { flight, turn, block_len: None, end, at, from_owner: 0, taken: false };
        for holder in std::mem::take(&mut self.from) {
            if intake.is_complete() {
                break;
            }
            self.try_peer(&holder, &mut intake).await?;
        }
        if !intake.is_complete() {
            flight.settle();
            self.ask_origin(&mut intake).await?;
        }
        let got = intake.at - self.range.start;
        let owner_keeps = got > 0 && intake.from_owner == got;
        let bytes = flight.assemble_by(|pieces| self.store.gather(pieces));
        // The joined copy and the pieces exist together for the time of one copy: at most once on each thread of the runtime,
        // which is why the memory is charged once.
        Ok(Filled { bytes, turn: intake.turn, owner_keeps })
    }

    /// What one peer has; its failures lead on to the next place. Errors: those after which no place can go on.
    async fn try_peer(&self, holder: &Holder, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        if !self.holders.may_ask(holder) {
            self.meter.skipped(SkipReason::BackOff);
            return Ok(());
        }
        let (asked, before) = (clock::now(), intake.at);
        let result = self.ask_peer(holder, intake).await;
        if holder.is_owner {
            intake.from_owner += intake.at - before;
        }
        self.holders.note(holder, asked, &result);
        let Err(skip) = result else { return Ok(()) };
        self.meter.skipped(skip.reason);
        // That a peer does not hold the block is what most of them say.
        if skip.reason != SkipReason::NotFound {
            tracing::debug!(key = %self.key, peer = %holder.addr, reason = skip.reason.as_str(), "peer passed over");
        }
        if skip.reason == SkipReason::Corrupt && !skip.unwell && intake.at > self.range.start {
            // An object's own checksum is known to be wrong only at its end, and speaks of the bytes that readers have by now.
            return Err(CacheError::Retracted { key: self.key.clone() });
        }
        Ok(())
    }

    async fn ask_peer(&self, holder: &Holder, intake: &mut Intake<'_>) -> Result<(), Skip> {
        let wanted = BlockRange { start: intake.at, end: intake.end };
        let reply = self.holders.ask(holder, self.key, wanted, self.class).await?;
        let GetHead { block_len, range, .. } = reply.head;
        if range != wanted.clamp(block_len) || self.accept(block_len, Tier::Peer, intake).await.is_err() {
            return Err(Skip::corrupt());
        }
        let (mut body, patience) = (reply.body, self.holders.body_patience());
        loop {
            match clock::timeout(patience, body.next()).await {
                Ok(Ok(Some(piece))) => self.take(piece.freeze(), intake),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(Skip::failed(&error)),
                Err(_) => return Err(Skip::silent()),
            }
        }
    }

    /// Bytes of a peer, counted before any reader sees them.
    fn take(&self, bytes: Bytes, intake: &mut Intake<'_>) {
        if !std::mem::replace(&mut intake.taken, true) {
            self.counters.takes();
        }
        self.counters.taken(bytes.len());
        intake.push(bytes, Tier::Peer);
    }

    /// The rest from the origin.
    async fn ask_origin(&self, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        let key = self.key;
        if !self.may_fetch {
            return Err(CacheError::NotOwner { key: key.clone() });
        }
        let store = self.origins.get(key.origin());
        let store = store.ok_or_else(|| CacheError::NoOrigin { key: key.clone(), origin: key.origin() })?;
        self.meter.origin_request();
        let all = intake.at == 0 && self.range == BlockRange::WHOLE;
        let start = intake.at;
        let range = (!all).then_some(BlockRange { start, end: intake.end });
        let mut body = origin::open(store.as_ref(), key, range, self.patience).await?;
        let known = body.block_len().or(intake.block_len);
        let block_len = known.ok_or_else(|| CacheError::Untold { key: key.clone() })?;
        self.accept(block_len, Tier::Origin, intake).await?;
        while let Some(bytes) = body.next().await? {
            let first = intake.at == start;
            intake.push(bytes, Tier::Origin);
            if first {
                // The first byte goes to its readers before the rest, which may be here already, is dealt with.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// A place says how long the block is: the first tells readers, and every other must say the same. Errors: `Corrupt`.
    async fn accept(&self, block_len: u32, tier: Tier, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        let must = match self.key.span() {
            BlockSpan::Part { len, .. } => Some(*len),
            BlockSpan::Whole => intake.block_len,
        };
        if let Some(must) = must.filter(|must| *must != block_len) {
            return Err(CacheError::Length { key: self.key.clone(), want: must.into(), got: block_len.into() });
        }
        if intake.block_len.is_some() {
            return Ok(());
        }
        let range = self.range.clamp(block_len);
        intake.block_len = Some(block_len);
        intake.end = range.end;
        let len = u64::from(range.len());
        if len > intake.turn.bytes() {
            self.typical.seen(block_len);
            // Given back first: two that each hold half of the memory and want more would wait for ever.
            intake.turn.shrink_to(0);
            intake.turn = self.room.urgent(len).await;
        } else {
            intake.turn.shrink_to(len);
        }
        intake.flight.announce(Head { len: range.len(), block_len, tier });
        Ok(())
    }
}
