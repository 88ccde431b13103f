//! How much each block is in demand, so that the much wanted ones are read from more than one owner.
//!
//! Pure: time comes in as an argument. A count halves every [`HALF_LIFE`]; the table is bounded, and what is asked for least is
//! forgotten first.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shoal_types::BlockId;
use shoal_wire::SPREAD_MAX;

/// A count is worth half of it after so long.
pub(crate) const HALF_LIFE: Duration = Duration::from_secs(10);
/// Decayed count from which a block is hot.
const HOT: f64 = 4.0;
/// Decayed count of a block that was asked for twice within some seconds.
const REPEATED: f64 = 1.25;
/// Requests of the decayed count that one owner should answer.
const PER_OWNER: f64 = 2.0;
/// Parts of the table, each with its own lock.
const SHARDS: usize = 16;
/// Blocks remembered in one part of the table: with 40 bytes each some 3 MiB in all. A hot block is asked for again within
/// seconds, in which one node answers fewer other blocks than this.
const BLOCKS_MAX: usize = 4096;

/// Gets of each block, decayed.
#[derive(Debug)]
pub(crate) struct Demand {
    shards: [Mutex<HashMap<BlockId, Count>>; SHARDS],
}

#[derive(Debug, Clone, Copy)]
struct Count {
    value: f64,
    at: Instant,
}

impl Count {
    fn worth(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * (-age / HALF_LIFE.as_secs_f64()).exp2()
    }
}

impl Demand {
    pub(crate) fn new() -> Demand {
        Demand { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts one get of `block`; gives how many of its owners should share the demand for its group: 0 if one is enough, else at
    /// most `members` and [`SPREAD_MAX`].
    pub(crate) fn asked(&self, block: BlockId, members: usize, now: Instant) -> u8 {
        let count = self.count(block, now);
        if count < HOT {
            return 0;
        }
        // Between 2 and SPREAD_MAX.
        let wanted = (count / PER_OWNER).ceil().min(SPREAD_MAX.into()) as usize;
        wanted.min(members) as u8
    }

    /// True if `block` was asked for more than once lately.
    pub(crate) fn is_repeated(&self, block: BlockId, now: Instant) -> bool {
        let shard = self.shard(block).lock();
        shard.get(&block).is_some_and(|count| count.worth(now) > REPEATED)
    }

    fn shard(&self, block: BlockId) -> &Mutex<HashMap<BlockId, Count>> {
        &self.shards[usize::from(block.0[0]) % SHARDS]
    }

    fn count(&self, block: BlockId, now: Instant) -> f64 {
        let mut shard = self.shard(block).lock();
        if shard.len() >= BLOCKS_MAX && !shard.contains_key(&block) {
            forget(&mut shard, now);
        }
        let count = shard.entry(block).or_insert(Count { value: 0.0, at: now });
        *count = Count { value: count.worth(now) + 1.0, at: now };
        count.value
    }
}

/// Drops at least the half of the table that is in least demand.
fn forget(shard: &mut HashMap<BlockId, Count>, now: Instant) {
    let mut worths: Vec<f64> = shard.values().map(|count| count.worth(now)).collect();
    let middle = worths.len() / 2;
    let (_, median, _) = worths.select_nth_unstable_by(middle, f64::total_cmp);
    let median = *median;
    shard.retain(|_, count| count.worth(now) > median);
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;

    use super::*;

    fn block(number: u64) -> BlockId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        BlockId(id)
    }

    #[test]
    fn a_block_asked_often_is_spread_and_cools_down() {
        let (demand, mut now) = (Demand::new(), clock::now());
        let hints: Vec<u8> = (0..12).map(|_| demand.asked(block(1), 100, now)).collect();
        assert_eq!(hints, [0, 0, 0, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
        assert_eq!(demand.asked(block(2), 100, now), 0, "another block is another matter");
        now += HALF_LIFE;
        // 12 are worth 6, and one more.
        assert_eq!(demand.asked(block(1), 100, now), 4);
        now += 10 * HALF_LIFE;
        assert_eq!(demand.asked(block(1), 100, now), 0);
    }

    #[test]
    fn a_second_ask_within_seconds_is_a_repetition() {
        let (demand, now) = (Demand::new(), clock::now());
        assert!(!demand.is_repeated(block(1), now));
        demand.asked(block(1), 100, now);
        assert!(!demand.is_repeated(block(1), now));
        demand.asked(block(1), 100, now + HALF_LIFE);
        assert!(demand.is_repeated(block(1), now + HALF_LIFE));
        demand.asked(block(2), 100, now);
        demand.asked(block(2), 100, now + 4 * HALF_LIFE);
        assert!(!demand.is_repeated(block(2), now + 4 * HALF_LIFE));
    }

    #[test]
    fn hints_stay_within_the_members_and_the_bound() {
        let (demand, now) = (Demand::new(), clock::now());
        let last = (0..1000).map(|_| demand.asked(block(1), 100, now)).last();
        assert_eq!(last, Some(SPREAD_MAX));
        assert_eq!(demand.asked(block(1), 3, now), 3);
        assert_eq!(demand.asked(block(1), 1, now), 1);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_hot() {
        let (demand, mut now) = (Demand::new(), clock::now());
        for _ in 0..8 {
            demand.asked(block(7), 100, now);
        }
        for number in 0..200_000 {
            now += Duration::from_micros(10);
            demand.asked(block(1000 + number), 100, now);
        }
        let held: Vec<usize> = demand.shards.iter().map(|shard| shard.lock().len()).collect();
        assert!(held.iter().all(|&held| held <= BLOCKS_MAX), "{held:?}");
        assert!(demand.asked(block(7), 100, now) > 0, "a scan of two hundred thousand blocks does not hide it");
    }
}
