//! Stored bytes of one block as they come in, from whichever places, in order.

use bytes::Bytes;
use shoal_types::{BlockKey, BlockRange, Tier};

use crate::arrival::Arrival;
use crate::error::CacheError;
use crate::flight::{Flight, join};

/// More bytes came than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// What of a block has come, and what is still wanted.
pub(crate) struct Intake<'a> {
    pub(crate) key: &'a BlockKey,
    /// Stored bytes in the block; unknown for an encoded block until a place has told.
    block_len: Option<u32>,
    /// One past the last byte wanted; `None` wants all.
    end: Option<u32>,
    /// The first byte wanted.
    start: u32,
    /// The next byte to come.
    at: u32,
    to: Sink<'a>,
    /// Where the last bytes came from.
    tier: Tier,
    from_node: bool,
}

enum Sink<'a> {
    /// Stored bytes are plain bytes: readers may have them at once.
    Readers(&'a Flight),
    /// They mean nothing until all of them are decoded.
    Held(Vec<Bytes>),
}

impl<'a> Intake<'a> {
    /// Bytes `span` of a block of `block_len` bytes, given to `flight` as they come.
    pub(crate) fn plain(key: &'a BlockKey, block_len: u32, span: BlockRange, flight: &'a Flight) -> Intake<'a> {
        Intake {
            key,
            block_len: Some(block_len),
            end: Some(span.end),
            start: span.start,
            at: span.start,
            to: Sink::Readers(flight),
            tier: Tier::Origin,
            from_node: false,
        }
    }

    /// All of a block whose stored length its object tells, held together.
    pub(crate) fn encoded(key: &'a BlockKey) -> Intake<'a> {
        let to = Sink::Held(Vec::new());
        Intake { key, block_len: None, end: None, start: 0, at: 0, to, tier: Tier::Origin, from_node: false }
    }

    /// What is still to come.
    pub(crate) fn wanted(&self) -> BlockRange {
        BlockRange { start: self.at, end: self.end.or(self.block_len).unwrap_or(u32::MAX) }
    }

    /// True once everything has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.wanted().is_empty()
    }

    /// The next byte to come.
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    /// True if the block's whole object is wanted and nothing of it has come.
    pub(crate) fn wants_all(&self) -> bool {
        self.at == 0 && self.end.is_none_or(|end| self.block_len == Some(end))
    }

    /// Where the last bytes came from.
    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// True if any of the bytes came from a node.
    pub(crate) fn is_from_node(&self) -> bool {
        self.from_node
    }

    /// A place says how long the block is; every place must say the same. Errors: `Corrupt`.
    pub(crate) fn accept(&mut self, block_len: u32) -> Result<(), CacheError> {
        match self.block_len {
            Some(known) if known != block_len => {
                Err(CacheError::Length { key: self.key.clone(), want: known.into(), got: block_len.into() })
            }
            _ => {
                self.block_len = Some(block_len);
                Ok(())
            }
        }
    }

    /// `bytes` from `tier`, of which the first is byte `pos` of the block; those that are here already are left out.
    ///
    /// `pos` is at most [`Intake::at`]: a place that was asked earlier may only lag behind.
    pub(crate) fn take(&mut self, pos: u32, mut bytes: Arrival, tier: Tier) -> Result<(), TooMany> {
        let known = (self.at - pos).min(bytes.len() as u32);
        bytes.advance(known as usize);
        if bytes.len() == 0 {
            return Ok(());
        }
        if bytes.len() > self.wanted().len() as usize {
            return Err(TooMany);
        }
        self.at += bytes.len() as u32;
        self.tier = tier;
        self.from_node |= tier != Tier::Origin;
        match &mut self.to {
            Sink::Readers(flight) => flight.add(bytes, tier),
            Sink::Held(pieces) => pieces.push(bytes.freeze()),
        }
        Ok(())
    }

    /// Forgets the bytes that came: an object's own checksum is known to be wrong only at its end, and speaks of all of them.
    pub(crate) fn rewind(&mut self) {
        self.at = self.start;
        self.from_node = false;
        match &mut self.to {
            Sink::Readers(flight) => flight.rewind(),
            Sink::Held(pieces) => pieces.clear(),
        }
    }

    /// Forgets what nodes said and gave of a block whose length only its object tells: the origin is asked for all of it.
    pub(crate) fn drop_unproven(&mut self) {
        if matches!(self.to, Sink::Held(_)) && self.from_node {
            self.rewind();
            self.block_len = None;
        }
    }

    /// True if bytes of nodes and of the origin may not be mixed.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.to, Sink::Held(_))
    }

    /// The bytes of an encoded block, joined; they are gone from here.
    pub(crate) fn joined(&mut self) -> Bytes {
        match &mut self.to {
            Sink::Readers(_) => Bytes::new(),
            Sink::Held(pieces) => join(&std::mem::take(pieces)),
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_types::OriginId;

    use super::*;

    fn peer(bytes: &[u8]) -> Arrival {
        Arrival::Own(bytes.into())
    }

    #[test]
    fn two_places_together_give_every_byte_once() {
        let key = BlockKey::whole(OriginId([1; 16]), "a");
        let mut intake = Intake::encoded(&key);
        intake.accept(10).unwrap();
        intake.take(0, peer(b"0123"), Tier::Peer).unwrap();
        // A second place was asked for what was wanted at byte 2, and lags behind.
        intake.take(2, peer(b"23"), Tier::Peer).unwrap();
        intake.take(2, peer(b"23456"), Tier::Peer).unwrap();
        assert_eq!((intake.at(), intake.is_complete()), (7, false));
        assert_eq!(intake.take(7, peer(b"789x"), Tier::Peer), Err(TooMany));
        intake.take(7, peer(b"789"), Tier::Peer).unwrap();
        assert!(intake.is_complete() && intake.is_from_node());
        assert_eq!(intake.joined(), "0123456789");
        assert!(intake.accept(11).is_err());
        intake.drop_unproven();
        assert_eq!((intake.at(), intake.wanted().end), (0, u32::MAX));
        intake.accept(11).unwrap();
    }
}
