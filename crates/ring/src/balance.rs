//! How the blocks are spread over the nodes.

use crate::position::PROBES;

const CIRCLE: f64 = 18_446_744_073_709_551_616.0; // 2^64

/// Each member's part of the key space; sums to 1. `points` are the positions, ascending, each with the index of its member.
///
/// A place lies at a distance of at most `L` before a point that ends an arc of length `L`, uniformly. So the chance that a place is
/// farther than `g` from its point is `S(g) = sum of max(L - g, 0)`, and a point with an arc of `L` wins a block with chance
/// `H(L) = integral of K S(g)^(K-1) dg` from 0 to `L`, for `K` places. `S` is a straight line between two arc lengths, so that
/// each piece of the integral is a difference of two powers: exact up to rounding and to places being independent.
pub(crate) fn shares(points: impl ExactSizeIterator<Item = (u64, u32)> + Clone, members: usize) -> Vec<f64> {
    let mut shares = vec![0.0; members];
    let Some((mut before, _)) = points.clone().last() else { return shares };
    let mut arcs: Vec<(f64, u32)> = Vec::with_capacity(points.len());
    for (at, member) in points {
        arcs.push((at.wrapping_sub(before) as f64 / CIRCLE, member));
        before = at;
    }
    if let [(arc, _)] = arcs.as_mut_slice() {
        // A single point is its own predecessor and ends the whole circle, whose length wraps to 0.
        *arc = 1.0;
    }
    arcs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut beyond, mut reached, mut chance) = (1.0f64, 0.0f64, 0.0f64);
    for (n, &(arc, member)) in arcs.iter().enumerate() {
        let longer = (arcs.len() - n) as f64;
        let next = (beyond - (arc - reached) * longer).max(0.0);
        chance += (beyond.powi(PROBES as i32) - next.powi(PROBES as i32)) / longer;
        (beyond, reached) = (next, arc);
        shares[member as usize] += chance;
    }
    shares
}
