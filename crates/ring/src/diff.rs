//! What a change of the ring costs.

use crate::ring::Ring;

/// Part of the key space whose owner differs between two rings, `0.0..=1.0`, exact up to rounding.
///
/// This is what a join or a leave moves: with consistent hashing exactly the share of the node that came or went.
/// A ring and an empty ring differ everywhere; two empty rings nowhere.
pub fn moved_share(before: &Ring, after: &Ring) -> f64 {
    if before.is_empty() && after.is_empty() {
        return 0.0;
    }
    let mut cuts: Vec<u64> = before.positions().iter().chain(after.positions()).copied().collect();
    cuts.sort_unstable();
    cuts.dedup();
    // Between two neighbouring cuts no vnode lies on either ring, so one owner holds the whole arc up to the later cut.
    let mut moved = 0u128;
    let mut previous = cuts.last().copied().unwrap_or(0);
    for &cut in &cuts {
        if before.owner_at(cut) != after.owner_at(cut) {
            moved += if cuts.len() == 1 { 1u128 << 64 } else { u128::from(cut.wrapping_sub(previous)) };
        }
        previous = cut;
    }
    moved as f64 / 18_446_744_073_709_551_616.0
}
