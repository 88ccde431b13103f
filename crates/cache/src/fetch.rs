//! One block, or a part of it, from the nearest place that gives it: owner, next replica, origin.
//!
//! A place that breaks off is not begun again: stored bytes are the same everywhere, so the next place continues from the byte
//! reached. A place is believed only as far as lengths, checksums and the codec can tell; the origin has the last word.

use std::pin::pin;

use bytes::Bytes;
use shoal_format::BlockCodec;
use shoal_runtime::{clock, task};
use shoal_types::{BlockKey, BlockRange, Class, Tier};

use crate::error::CacheError;
use crate::flight::{Flight, Head};
use crate::intake::Intake;
use crate::lane::{open, within};
use crate::last_resort::LastResort;
use crate::metrics::SkipReason;
use crate::nodes::Nodes;
use crate::race::Race;

/// A block as a client names it: which one, and how to turn its stored bytes into plain ones.
#[derive(Debug, Clone)]
pub struct Block {
    /// The block.
    pub key: BlockKey,
    /// Plain bytes in it.
    pub plain_len: u32,
    /// How it is stored.
    pub codec: BlockCodec,
}

/// The places below a client's memory.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) nodes: Option<Nodes>,
    pub(crate) last: LastResort,
}

impl Fetcher {
    /// Brings plain bytes `span` of `block` to `flight`, to its end; an encoded block always comes whole.
    ///
    /// Errors: `NotFound`, `Corrupt`, and what else the origin says: it is asked when every owner has failed, so an error is
    /// the origin's. The flight is left for the caller to fail.
    pub(crate) async fn fetch(
        &self,
        class: Class,
        block: &Block,
        span: BlockRange,
        flight: &Flight,
    ) -> Result<Bytes, CacheError> {
        if !block.codec.is_identity() {
            return self.fetch_encoded(class, block, flight).await;
        }
        flight.announce(Head::whole(span.len(), Tier::Origin));
        let mut intake = Intake::plain(&block.key, block.plain_len, span, flight);
        self.gather(class, block.plain_len, &mut intake, flight).await?;
        Ok(flight.assemble())
    }

    async fn fetch_encoded(&self, class: Class, block: &Block, flight: &Flight) -> Result<Bytes, CacheError> {
        let mut intake = Intake::encoded(&block.key);
        self.gather(class, block.plain_len, &mut intake, flight).await?;
        let plain = match decode(block, intake.joined()).await {
            Err(error) if intake.is_from_node() => {
                // Checksums on the way were right, so a node has the wrong bytes; only the origin can tell.
                self.last.meter.skipped(SkipReason::Corrupt);
                tracing::warn!(key = %block.key, %error, "a node gave bytes that do not decode; asking the origin");
                self.last.finish(&mut intake, None).await?;
                decode(block, intake.joined()).await?
            }
            result => result?,
        };
        flight.land(plain.clone(), intake.tier());
        Ok(plain)
    }

    /// Brings the rest of what `intake` wants, at most `expected` bytes as far as its reader knows.
    async fn gather(
        &self,
        class: Class,
        expected: u32,
        intake: &mut Intake<'_>,
        flight: &Flight,
    ) -> Result<(), CacheError> {
        let Some(nodes) = &self.nodes else { return self.last.finish(intake, None).await };
        let plan = nodes.plan(intake.key, clock::now());
        // Outlives the race, which goes on with it if it is late.
        let mut opening = pin!(None);
        let mut race = Race::new(&self.last, nodes, &plan, class, flight, expected);
        let Some(first) = race.first(intake).await else { return self.last.finish(intake, None).await };
        // The usual way, without an allocation for what might come later: one place, which is not late.
        let (addr, bound, request) = (first.addr(), first.bound(), race.request(intake, false));
        let lane = race.lane(first, intake, clock::now());
        opening.set(Some(open(&nodes.peers.endpoint, addr, request)));
        let mut opening = opening.as_pin_mut().expect("it was set just now");
        match within(bound, opening.as_mut()).await {
            Some(result) => race.opened(lane, result, intake).await,
            None => race.is_late(lane, Box::pin(opening)),
        }
        if intake.is_complete() {
            return Ok(());
        }
        // Apart from the rest: what may still happen would be most of the memory of every fetch.
        Box::pin(race.run(intake)).await
    }
}

/// Plain bytes of a stored block, worked out on a thread that may block: decoding costs milliseconds.
async fn decode(block: &Block, stored: Bytes) -> Result<Bytes, CacheError> {
    let (codec, plain_len) = (block.codec.clone(), block.plain_len);
    let decoded = task::blocking("decode", move || codec.decode(stored, plain_len)).await;
    let plain = decoded.map_err(|source| CacheError::Decode { key: block.key.clone(), source: source.into() })?;
    if plain.len() != plain_len as usize {
        let (want, got) = (u64::from(plain_len), plain.len() as u64);
        return Err(CacheError::Length { key: block.key.clone(), want, got });
    }
    Ok(plain)
}
