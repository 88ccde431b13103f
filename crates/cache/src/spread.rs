//! Which of a hot block's owners this client reads from.
//!
//! A node that serves a block above its share says so in its answers: blocks of the group may be read from any of their first so
//! many owners. A client that has heard it picks one of them for each block, by a hash of itself and the block, so that clients
//! spread over owners without asking one another. A hint holds for a while and is renewed by whoever still sees the demand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use shoal_types::{BlockId, BlockKey};

/// How long a hint holds.
const HOLDS: Duration = Duration::from_secs(30);
/// Groups remembered at most. At the bound those whose time is over go, or else all.
const GROUPS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Hint {
    spread: u8,
    until: Instant,
}

/// The hints this client has heard.
#[derive(Debug)]
pub(crate) struct Hints {
    client: u64,
    /// Number of groups: reads look at nothing else while nothing is hot.
    known: AtomicUsize,
    groups: RwLock<HashMap<u64, Hint>>,
}

impl Hints {
    /// None yet. `client` tells this client from others.
    pub(crate) fn new(client: u64) -> Hints {
        Hints { client, known: AtomicUsize::new(0), groups: RwLock::default() }
    }

    /// A node answered that blocks of `key`'s group may be read from their first `spread` owners; 0 says nothing.
    pub(crate) fn hear(&self, key: &BlockKey, spread: u8, now: Instant) {
        if spread == 0 {
            return;
        }
        let group = key.group();
        let fresh = |hint: &Hint| hint.spread >= spread && hint.until > now + HOLDS / 2;
        if self.groups.read().get(&group).is_some_and(fresh) {
            return;
        }
        let mut groups = self.groups.write();
        if groups.len() >= GROUPS_MAX && !groups.contains_key(&group) {
            groups.retain(|_, hint| hint.until > now);
            if groups.len() >= GROUPS_MAX {
                groups.clear();
            }
        }
        let hint = groups.entry(group).or_insert(Hint { spread, until: now });
        // The highest one counts while it holds: demand is not seen by all nodes alike.
        hint.spread = if hint.until > now { hint.spread.max(spread) } else { spread };
        hint.until = now + HOLDS;
        self.known.store(groups.len(), Ordering::Relaxed);
    }

    /// Over how many owners reads of `key` are spread; 0 is the plain rule.
    pub(crate) fn spread(&self, key: &BlockKey, now: Instant) -> u8 {
        if self.known.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.groups.read().get(&key.group()).filter(|hint| hint.until > now).map_or(0, |hint| hint.spread)
    }

    /// Which of `among` owners this client asks first for `block`; `among` is not 0.
    pub(crate) fn pick(&self, block: BlockId, among: usize) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = block.0;
        // The block's id is a hash already; one round of SplitMix64 mixes the client in.
        let mut mixed = u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ self.client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % among as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;
    use shoal_types::OriginId;

    use super::*;

    fn key(name: &str) -> BlockKey {
        BlockKey::whole(OriginId([7; 16]), name)
    }

    #[test]
    fn a_hint_holds_for_its_group_and_its_time() {
        let (hints, start) = (Hints::new(1), clock::now());
        assert_eq!(hints.spread(&key("v/0/a"), start), 0);
        hints.hear(&key("v/0/a"), 0, start);
        assert_eq!(hints.known.load(Ordering::Relaxed), 0);
        hints.hear(&key("v/0/a"), 4, start);
        assert_eq!((hints.spread(&key("v/0/b"), start), hints.spread(&key("v/1/a"), start)), (4, 0));
        hints.hear(&key("v/0/c"), 2, start);
        assert_eq!(hints.spread(&key("v/0/b"), start), 4, "the highest counts");
        let later = start + HOLDS;
        assert_eq!(hints.spread(&key("v/0/b"), later), 0);
        hints.hear(&key("v/0/b"), 2, later);
        assert_eq!(hints.spread(&key("v/0/b"), later + HOLDS / 2), 2);
    }

    #[test]
    fn groups_are_bounded() {
        let (hints, start) = (Hints::new(1), clock::now());
        for i in 0..3 * GROUPS_MAX {
            hints.hear(&key(&format!("{i}/a")), 2, start + Duration::from_millis(i as u64));
            assert!(hints.groups.read().len() <= GROUPS_MAX);
        }
    }

    #[test]
    fn clients_and_blocks_spread_evenly_over_owners() {
        let mut asked = [0u32; 8];
        let clients: Vec<Hints> = (0..32).map(|i| Hints::new(0x1234_5678_9abc_def0u64.wrapping_mul(i + 1))).collect();
        for client in &clients {
            for block in 0..256 {
                asked[client.pick(key(&format!("v/{block}")).id(), 8)] += 1;
            }
        }
        // 1024 each; the standard deviation of a fair draw is 30.
        assert!(asked.iter().all(|n| (880..1170).contains(n)), "{asked:?}");
        let one = key("v/0").id();
        let used: std::collections::HashSet<usize> = clients.iter().map(|client| client.pick(one, 8)).collect();
        assert!(used.len() >= 6, "32 clients reach most of 8 owners of one block: {used:?}");
        assert_eq!(clients[3].pick(one, 8), clients[3].pick(one, 8));
    }
}
