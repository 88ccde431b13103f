//! One block (or a part of one) on its way: bytes arrive in order, and everyone who waits reads them as they come.
//!
//! A flight has one writer, the task that fetches, and any number of readers. It is written in one of two ways: in pieces that
//! readers get as they arrived, without a copy (a node streams them on), or into one buffer (a client hands out ranges, and
//! pieces of network buffers would hold several times their length). A failure reaches readers after the bytes before it. A reader is woken when what it waits for is there, not by
//! every piece. Knows no place bytes come from.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use shoal_types::Tier;
use tokio::sync::Notify;

use crate::arrival::Arrival;
use crate::error::CacheError;
use crate::metrics::TIERS;

/// A span of fewer bytes always gets memory of its own: the buffers of network libraries are of this size and less.
const OWN_BELOW: usize = 512 << 10;

/// Bytes `0..len` of one span, arriving in order.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What will come; unknown until the place that has it answered.
    head: Option<Head>,
    /// True once the bytes come, or are asked for, from a place that waits for no other node.
    settled: bool,
    /// What was pushed, in order and without gaps; empty once `whole` is there.
    pieces: Vec<Piece>,
    /// What was added, from the first byte; empty once `whole` is there.
    buffer: BytesMut,
    arrived: u32,
    whole: Option<Bytes>,
    /// Which tier gave which bytes: runs by their end.
    runs: Vec<Run>,
    failed: Option<CacheError>,
    /// Readers sleep until so many bytes have arrived; the least of what they need, `None` if nobody waits for bytes.
    wake_at: Option<u32>,
    /// Set once the bytes are kept elsewhere, or could not be.
    kept: Option<Result<(), CacheError>>,
    /// A program waits for bytes of a flight that was started for later.
    hurried: bool,
}

#[derive(Debug)]
struct Piece {
    start: u32,
    bytes: Bytes,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    end: u32,
    tier: Tier,
}

/// What is known of a span before its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes that will come.
    pub(crate) len: u32,
    /// Bytes in the block they are of.
    pub(crate) block_len: u32,
    /// Where the first of them come from.
    pub(crate) tier: Tier,
}

impl Head {
    /// `len` bytes that are a block of their own.
    pub(crate) fn whole(len: u32, tier: Tier) -> Head {
        Head { len, block_len: len, tier }
    }
}

/// Bytes a reader got, and how many of them each tier gave.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) bytes: Bytes,
    pub(crate) by_tier: [u32; TIERS],
}

impl Flight {
    /// What will come.
    pub(crate) fn announce(&self, head: Head) {
        self.tell(|state| {
            state.head = Some(head);
            state.settled = true;
        });
    }

    /// From here on no other node is waited for.
    pub(crate) fn settle(&self) {
        self.tell(|state| state.settled = true);
    }

    /// True once no other node is waited for: who waits for this flight then cannot wait for itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.state.lock().settled
    }

    /// The next `bytes` have come from `tier`; they are kept as they are. The writer never goes past the announced length.
    pub(crate) fn push(&self, bytes: Bytes, tier: Tier) {
        let len = bytes.len();
        self.advance(len, tier, |state| state.pieces.push(Piece { start: state.arrived, bytes }));
    }

    /// The next `bytes` have come from `tier`, for the one buffer. Not for a flight that is read piece by piece.
    pub(crate) fn add(&self, bytes: Arrival, tier: Tier) {
        self.advance(bytes.len(), tier, |state| {
            let more = state.len().unwrap_or(0).saturating_sub(state.arrived);
            bytes.append_to(&mut state.buffer, more as usize);
        });
    }

    fn advance(&self, len: usize, tier: Tier, add: impl FnOnce(&mut State)) {
        if len == 0 {
            return;
        }
        let mut state = self.state.lock();
        add(&mut state);
        state.arrived += len as u32;
        let end = state.arrived;
        state.run(end, tier);
        if state.wake_at.is_some_and(|needed| needed <= end) {
            state.wake_at = None;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// The bytes that came were wrong: they will come again. Readers of ranges that got theirs keep them. Not for a flight that is
    /// read piece by piece.
    pub(crate) fn rewind(&self) {
        self.tell(|state| {
            state.arrived = 0;
            state.pieces = Vec::new();
            state.buffer.clear();
            state.runs = Vec::new();
        });
    }

    /// Everything has come: gives the whole span in memory of its own. Pieces are joined in one copy, unless there is only one
    /// large one; the buffer is taken as it is.
    pub(crate) fn assemble(&self) -> Bytes {
        self.assemble_by(join)
    }

    /// [`Flight::assemble`], with `join` to put the pieces together.
    pub(crate) fn assemble_by(&self, join: impl FnOnce(&[Bytes]) -> Bytes) -> Bytes {
        // A reader that looks between two locks must find the bytes in one place or the other: the buffer becomes the whole under
        // one lock, and pieces stay until the whole is there.
        let mut taken = None;
        self.tell(|state| {
            if state.pieces.is_empty() {
                let whole = state.buffer.split().freeze();
                state.finish(whole.clone());
                taken = Some(whole);
            }
        });
        if let Some(whole) = taken {
            return whole;
        }
        let pieces: Vec<Bytes> = self.state.lock().pieces.iter().map(|piece| piece.bytes.clone()).collect();
        let whole = match pieces.as_slice() {
            // A small piece may be a part of a buffer many times its size, which it would keep alive.
            [only] if only.len() < OWN_BELOW => Bytes::copy_from_slice(only),
            pieces => join(pieces),
        };
        self.complete(whole.clone());
        whole
    }

    /// Everything has come at once, from `tier`: the writer of a flight whose pieces nobody may see.
    pub(crate) fn land(&self, whole: Bytes, tier: Tier) {
        self.tell(|state| {
            state.head = Some(Head::whole(whole.len() as u32, tier));
            state.run(whole.len() as u32, tier);
        });
        self.complete(whole);
    }

    fn complete(&self, whole: Bytes) {
        self.tell(|state| state.finish(whole));
    }

    /// No more bytes will come. Without effect on a flight that has everything.
    pub(crate) fn fail(&self, error: CacheError) {
        self.tell(|state| {
            if state.whole.is_none() {
                state.failed.get_or_insert(error);
            }
        });
    }

    /// The bytes are kept elsewhere now, or could not be.
    pub(crate) fn keep(&self, result: Result<(), CacheError>) {
        self.tell(|state| state.kept = Some(result));
    }

    /// A program waits for what was being fetched for later.
    pub(crate) fn hurry(&self) {
        if !self.state.lock().hurried {
            self.tell(|state| state.hurried = true);
        }
    }

    /// Returns once a program waits for bytes of this flight.
    pub(crate) async fn hurried(&self) {
        self.when(|state| if state.hurried { Look::Ready(()) } else { Look::Told }).await;
    }

    /// What will come, once known. Cancel-safe, like every wait here.
    pub(crate) async fn head(&self) -> Result<Head, CacheError> {
        self.when(|state| match (state.head, &state.failed) {
            (Some(head), _) => Look::Ready(Ok(head)),
            (None, Some(error)) => Look::Ready(Err(error.clone())),
            (None, None) => Look::Told,
        })
        .await
    }

    /// Some bytes from `at`, at most up to `end`, and where they came from; `at < end <= len`.
    pub(crate) async fn piece(&self, at: u32, end: u32) -> Result<(Bytes, Tier), CacheError> {
        self.when(|state| {
            if at < state.arrived {
                return Look::Ready(Ok(state.piece(at, end)));
            }
            state.failed.as_ref().map_or(Look::Arrived(at + 1), |error| Look::Ready(Err(error.clone())))
        })
        .await
    }

    /// Bytes `start..end` together, as soon as the last of them has come; `start <= end <= len`.
    ///
    /// A slice of the whole span where that is at hand or about to be, a copy where bytes are still on their way.
    pub(crate) async fn range(&self, start: u32, end: u32) -> Result<Delivered, CacheError> {
        self.when(|state| {
            let delivered = |bytes| Look::Ready(Ok(Delivered { bytes, by_tier: state.by_tier(start, end) }));
            if let Some(whole) = &state.whole {
                return delivered(whole.slice(start as usize..end as usize));
            }
            // At the last byte the whole span is a moment away: better a slice of that than a copy.
            let last = state.len() == Some(end);
            if state.arrived >= end && !last {
                return delivered(state.gather(start, end));
            }
            match &state.failed {
                Some(error) => Look::Ready(Err(error.clone())),
                None if last => Look::Told,
                None => Look::Arrived(end),
            }
        })
        .await
    }

    /// How keeping the bytes went; the flight's error if they never came.
    pub(crate) async fn kept(&self) -> Result<(), CacheError> {
        self.when(|state| match (&state.kept, &state.failed) {
            (Some(result), _) => Look::Ready(result.clone()),
            (None, Some(error)) => Look::Ready(Err(error.clone())),
            (None, None) => Look::Told,
        })
        .await
    }

    /// Changes the state in a way that every reader hears of.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.wake_at = None;
        drop(state);
        self.changed.notify_waiters();
    }

    async fn when<T>(&self, mut look: impl FnMut(&State) -> Look<T>) -> T {
        let mut changed = pin!(self.changed.notified());
        loop {
            {
                let mut state = self.state.lock();
                match look(&state) {
                    Look::Ready(value) => return value,
                    Look::Told => {}
                    Look::Arrived(needed) => {
                        state.wake_at = Some(state.wake_at.map_or(needed, |wake_at| wake_at.min(needed)));
                    }
                }
                // Registered under the lock that a change takes, so none can fall between the look and the wait.
                changed.as_mut().enable();
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }
}

/// What a reader found.
enum Look<T> {
    /// What it waited for.
    Ready(T),
    /// Nothing: look again when something other than bytes changes.
    Told,
    /// Nothing: look again when so many bytes have arrived, or something else changes.
    Arrived(u32),
}

impl State {
    fn len(&self) -> Option<u32> {
        self.head.map(|head| head.len)
    }

    fn finish(&mut self, whole: Bytes) {
        self.arrived = whole.len() as u32;
        self.pieces = Vec::new();
        self.whole = Some(whole);
    }

    fn run(&mut self, end: u32, tier: Tier) {
        match self.runs.last_mut() {
            Some(last) if last.tier == tier => last.end = end,
            _ => self.runs.push(Run { end, tier }),
        }
    }

    /// The bytes at `at` up to `end` or to where their piece or their tier ends. `at < arrived`.
    fn piece(&self, at: u32, end: u32) -> (Bytes, Tier) {
        let run = self.runs[self.runs.partition_point(|run| run.end <= at)];
        let end = end.min(run.end);
        let (start, bytes) = match &self.whole {
            Some(whole) => (0, whole),
            None => {
                let piece = &self.pieces[self.index_of(at)];
                (piece.start, &piece.bytes)
            }
        };
        let stop = (end - start).min(bytes.len() as u32);
        (bytes.slice((at - start) as usize..stop as usize), run.tier)
    }

    /// Index of the piece that holds byte `at`. `at < arrived`.
    fn index_of(&self, at: u32) -> usize {
        self.pieces.partition_point(|piece| piece.start <= at) - 1
    }

    /// Bytes `start..end` in one buffer. All of them have arrived and `whole` is not there.
    fn gather(&self, start: u32, end: u32) -> Bytes {
        if start >= end {
            return Bytes::new();
        }
        if let Some(copied) = self.buffer.get(start as usize..end as usize) {
            return Bytes::copy_from_slice(copied);
        }
        let (first, last) = (self.index_of(start), self.index_of(end - 1));
        let cut = |piece: &Piece| {
            let from = start.saturating_sub(piece.start) as usize;
            let to = ((end - piece.start) as usize).min(piece.bytes.len());
            piece.bytes.slice(from..to)
        };
        join(&self.pieces[first..=last].iter().map(cut).collect::<Vec<_>>())
    }

    fn by_tier(&self, start: u32, end: u32) -> [u32; TIERS] {
        let mut by_tier = [0; TIERS];
        let mut at = start;
        for run in &self.runs {
            let stop = run.end.min(end);
            if stop > at {
                by_tier[run.tier as usize] += stop - at;
                at = stop;
            }
        }
        by_tier
    }
}

/// `pieces` in one buffer; without a copy if there is only one.
pub(crate) fn join(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [] => Bytes::new(),
        [only] => only.clone(),
        _ => {
            let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
            joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use shoal_types::{BlockKey, OriginId};

    use super::*;

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn own(bytes: &[u8]) -> Arrival {
        Arrival::Own(BytesMut::from(bytes))
    }

    fn lost() -> CacheError {
        CacheError::Abandoned { key: BlockKey::whole(OriginId([1; 16]), "a") }
    }

    #[test]
    fn readers_get_bytes_as_they_come() {
        let flight = Flight::default();
        assert!(now(flight.head()).is_none());
        flight.announce(Head::whole(10, Tier::Origin));
        assert_eq!(now(flight.head()).unwrap().unwrap().len, 10);
        assert!(now(flight.piece(0, 10)).is_none());
        flight.push(Bytes::from_static(b"0123"), Tier::Origin);
        flight.push(Bytes::from_static(b"456"), Tier::Origin);
        assert_eq!(now(flight.piece(1, 10)).unwrap().unwrap().0, "123");
        assert_eq!(now(flight.piece(4, 6)).unwrap().unwrap().0, "45");
        assert_eq!(now(flight.range(2, 6)).unwrap().unwrap().bytes, "2345");
        assert!(now(flight.range(2, 8)).is_none());
        assert!(now(flight.piece(7, 10)).is_none());
        flight.push(Bytes::from_static(b"789"), Tier::Origin);
        assert_eq!(flight.assemble(), "0123456789");
        assert_eq!(now(flight.range(0, 10)).unwrap().unwrap().bytes, "0123456789");
        assert_eq!(now(flight.piece(7, 9)).unwrap().unwrap().0, "78");
    }

    #[test]
    fn a_failure_comes_after_the_bytes_before_it() {
        let flight = Flight::default();
        flight.announce(Head::whole(8, Tier::Origin));
        flight.push(Bytes::from_static(b"0123"), Tier::Peer);
        flight.fail(lost());
        assert_eq!(now(flight.piece(0, 8)).unwrap().unwrap().0, "0123");
        assert!(now(flight.piece(4, 8)).unwrap().is_err());
        assert_eq!(now(flight.range(0, 4)).unwrap().unwrap().bytes, "0123");
        assert!(now(flight.range(0, 5)).unwrap().is_err());
        assert!(now(flight.kept()).unwrap().is_err());
    }

    #[test]
    fn every_byte_is_counted_under_the_tier_that_gave_it() {
        let flight = Flight::default();
        flight.announce(Head::whole(9, Tier::Origin));
        flight.push(Bytes::from_static(b"012"), Tier::Peer);
        flight.push(Bytes::from_static(b"34"), Tier::Peer);
        flight.push(Bytes::from_static(b"5678"), Tier::Origin);
        flight.assemble();
        let counted = |start, end| now(flight.range(start, end)).unwrap().unwrap().by_tier;
        assert_eq!(counted(0, 9), [0, 0, 5, 4]);
        assert_eq!(counted(4, 6), [0, 0, 1, 1]);
        assert_eq!(counted(6, 6), [0, 0, 0, 0]);
        // A piece never mixes tiers.
        assert_eq!(now(flight.piece(3, 9)).unwrap().unwrap(), (Bytes::from_static(b"34"), Tier::Peer));
        assert_eq!(now(flight.piece(5, 9)).unwrap().unwrap(), (Bytes::from_static(b"5678"), Tier::Origin));
    }

    #[test]
    fn rewound_bytes_come_again() {
        let flight = Flight::default();
        flight.announce(Head::whole(4, Tier::Origin));
        flight.add(own(b"xx"), Tier::Peer);
        assert_eq!(now(flight.range(0, 2)).unwrap().unwrap().bytes, "xx");
        flight.rewind();
        assert!(now(flight.range(0, 1)).is_none());
        flight.add(Arrival::Borrowed(Bytes::from_static(b"012")), Tier::Origin);
        assert_eq!(now(flight.range(1, 3)).unwrap().unwrap().bytes, "12");
        flight.add(Arrival::Borrowed(Bytes::from_static(b"3")), Tier::Origin);
        assert_eq!(flight.assemble(), "0123");
        assert_eq!(now(flight.range(0, 4)).unwrap().unwrap().by_tier, [0, 0, 0, 4]);
    }

    #[test]
    fn a_reader_finds_its_bytes_while_the_whole_is_made() {
        for _ in 0..200 {
            let flight = Flight::default();
            flight.announce(Head::whole(1000, Tier::Origin));
            flight.add(own(&[7; 1000]), Tier::Peer);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(now(flight.range(10, 20)).unwrap().unwrap().bytes, [7u8; 10][..]);
                    }
                });
                flight.assemble();
            });
        }
    }

    #[test]
    fn an_empty_span_is_whole_at_once() {
        let flight = Flight::default();
        flight.announce(Head::whole(0, Tier::Origin));
        assert!(flight.assemble().is_empty());
        assert!(now(flight.range(0, 0)).unwrap().unwrap().bytes.is_empty());
    }

    #[tokio::test]
    async fn many_waiters_get_their_own_bytes_and_the_whole() {
        let flight = std::sync::Arc::new(Flight::default());
        let waiters: Vec<_> = (0..40u32)
            .map(|i| {
                let flight = flight.clone();
                shoal_runtime::task::spawn("waiter", async move {
                    let (start, end) = (i % 20, 20 - i % 7);
                    (start.min(end), end, flight.range(start.min(end), end).await)
                })
            })
            .collect();
        let data: Vec<u8> = (0..20).collect();
        flight.announce(Head::whole(20, Tier::Origin));
        for chunk in data.chunks(3) {
            tokio::task::yield_now().await;
            flight.push(Bytes::copy_from_slice(chunk), Tier::Origin);
        }
        tokio::task::yield_now().await;
        flight.assemble();
        for waiter in waiters {
            let (start, end, got) = waiter.await.unwrap();
            assert_eq!(got.unwrap().bytes, data[start as usize..end as usize]);
        }
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_the_byte_it_waits_for() {
        let flight = std::sync::Arc::new(Flight::default());
        let waiter = {
            let flight = flight.clone();
            shoal_runtime::task::spawn("waiter", async move { flight.range(0, 4).await })
        };
        flight.announce(Head::whole(5, Tier::Origin));
        for byte in [b"0", b"1", b"2", b"3"] {
            tokio::task::yield_now().await;
            flight.push(Bytes::from_static(byte), Tier::Origin);
        }
        assert_eq!(waiter.await.unwrap().unwrap().bytes, "0123");
    }
}
