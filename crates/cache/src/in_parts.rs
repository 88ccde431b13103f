//! A large range of a block from the store in parts: the first is on its way to the reader while the others are read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use shoal_runtime::task;
use shoal_store::{Found, Store};
use shoal_types::{BlockKey, BlockRange, Class};

use crate::disk_turns::DiskTurns;

/// Bytes of the first part: read in a fraction of a millisecond, and enough to keep the network busy until the next one is there.
const FIRST_BYTES: u32 = 512 << 10;
/// Bytes of the other parts: a device's full speed.
const PART_BYTES: u32 = 1 << 20;
/// Bytes of the parts of lower classes: a program's read waits for one of them at most.
const LOW_PART_BYTES: u32 = 512 << 10;
/// Parts end at a multiple of this in the block: at a page of the store.
const ALIGN: u32 = 64 << 10;
/// Parts read at once.
const AHEAD: usize = 4;

/// The part of `range` that is read first; all of it if the rest would not be worth a read of its own.
pub(crate) fn first(range: BlockRange) -> BlockRange {
    if range.len() < FIRST_BYTES + PART_BYTES {
        return range;
    }
    BlockRange { start: range.start, end: (range.start + FIRST_BYTES) / ALIGN * ALIGN }
}

/// Parts on their way from the store, in order.
pub(crate) struct InParts {
    store: Store,
    turns: Arc<DiskTurns>,
    class: Class,
    key: BlockKey,
    /// What no read was started for.
    rest: BlockRange,
    reads: FuturesOrdered<BoxFuture<'static, Option<Found>>>,
    ready: VecDeque<Option<Found>>,
    lost: bool,
}

impl InParts {
    /// Starts to read `range` of `key`, which lies in the block, for a reader of `class`.
    pub(crate) async fn start(
        store: Store,
        turns: Arc<DiskTurns>,
        class: Class,
        key: BlockKey,
        range: BlockRange,
    ) -> InParts {
        let (reads, ready) = (FuturesOrdered::new(), VecDeque::new());
        let mut parts = InParts { store, turns, class, key, rest: range, reads, ready, lost: false };
        parts.go_on().await;
        parts
    }

    /// The next part; `None` from where the store has lost the block, and after the last part. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Found> {
        if self.lost {
            return None;
        }
        let next = match self.ready.pop_front() {
            Some(ready) => Some(ready),
            None => self.reads.next().await,
        };
        let next = next.flatten();
        self.lost = next.is_none();
        self.go_on().await;
        next
    }

    fn read(&self, part: BlockRange) -> BoxFuture<'static, Option<Found>> {
        let (store, key) = (self.store.clone(), self.key.clone());
        if self.class == Class::Foreground {
            return Box::pin(async move { store.read(&key, part).await.ok().flatten() });
        }
        // A task of its own: a turn must not be held by a read that is done but whose peer takes nothing.
        let (turns, class) = (Arc::clone(&self.turns), self.class);
        let read = task::spawn("part-read", async move {
            let _turn = turns.turn(class).await;
            store.read(&key, part).await.ok().flatten()
        });
        Box::pin(async move { read.await.ok().flatten() })
    }

    /// Starts reads up to the bound: a read that nobody has looked at has not begun. Never waits.
    async fn go_on(&mut self) {
        while self.reads.len() + self.ready.len() < AHEAD && !self.rest.is_empty() {
            let bytes = if self.class == Class::Foreground { PART_BYTES } else { LOW_PART_BYTES };
            let end = self.rest.end.min(self.rest.start + bytes);
            let part = BlockRange { start: self.rest.start, end };
            self.rest.start = end;
            self.reads.push_back(self.read(part));
        }
        poll_fn(|cx| {
            while let Poll::Ready(Some(read)) = self.reads.poll_next_unpin(cx) {
                self.ready.push_back(read);
            }
            Poll::Ready(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1 << 20;

    #[test]
    fn a_large_range_begins_with_a_small_part_that_ends_at_a_page() {
        assert_eq!(first(BlockRange::WHOLE), BlockRange::new(0, FIRST_BYTES));
        assert_eq!(first(BlockRange::new(0, MIB)), BlockRange::new(0, MIB), "in one read");
        let odd = first(BlockRange::new(5 * MIB + 1, 8 * MIB));
        assert_eq!((odd.start, odd.end), (5 * MIB + 1, 5 * MIB + FIRST_BYTES));
        let late = BlockRange { start: u32::MAX - 10, end: u32::MAX };
        assert_eq!(first(late), late);
    }
}
