//! A node's weight: how many points it has on the circle, and what it is by default.

/// Largest weight: ten ordinary nodes. Bounds the points one member can put on the circle.
pub const WEIGHT_MAX: u32 = 1000;

/// Bytes of cache for each unit of weight: 100 units, an ordinary node, are 2 TiB.
const BYTES_PER_UNIT: u64 = (2 << 40) / 100;

/// Least weight by capacity: with fewer points than that, nodes of the same size own visibly different shares.
const AUTO_MIN: u64 = 10;

/// The weight of a node that offers `bytes` of cache: one unit for each hundredth of 2 TiB, rounded, 10 to [`WEIGHT_MAX`].
///
/// So nodes of 200 GiB to 20 TiB get shares in proportion to their caches; smaller ones count as 200 GiB, larger ones as 20 TiB.
pub const fn weight_of_capacity(bytes: u64) -> u32 {
    let units = (bytes / BYTES_PER_UNIT) + (bytes % BYTES_PER_UNIT) / (BYTES_PER_UNIT / 2 + 1);
    match units {
        0..AUTO_MIN => AUTO_MIN as u32,
        units if units > WEIGHT_MAX as u64 => WEIGHT_MAX,
        units => units as u32,
    }
}

/// `weight` within `1..=WEIGHT_MAX`: the number of points it stands for.
pub(crate) const fn clamped(weight: u32) -> u32 {
    if weight < 1 {
        1
    } else if weight > WEIGHT_MAX {
        WEIGHT_MAX
    } else {
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_is_in_proportion_to_capacity_within_its_bounds() {
        const TIB: u64 = 1 << 40;
        for (bytes, weight) in [
            (0, 10),
            (1 << 30, 10),
            (TIB / 2, 25),
            (TIB, 50),
            (2 * TIB, 100),
            (7 * TIB, 350),
            (20 * TIB, 1000),
            (100 * TIB, 1000),
            (u64::MAX, 1000),
        ] {
            assert_eq!(weight_of_capacity(bytes), weight, "{bytes}");
        }
    }
}
