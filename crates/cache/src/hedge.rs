//! How many bytes may be asked for a second time: a share of those that were delivered.
//!
//! Asking twice cuts the tail of slow answers, and doubles the load where everything is slow. Bytes delivered earn the right to
//! ask again for a percentage of them; what is not used is kept up to a bound, so that a burst of late answers after a quiet time
//! is met.

use std::sync::atomic::{AtomicI64, Ordering};

/// What is kept at most, and what there is to begin with: sixteen blocks of 4 MiB.
const KEPT_MAX: i64 = 64 << 20;
/// How far forced asks may take it below zero.
const DEBT_MAX: i64 = -KEPT_MAX;

/// Bytes that may be asked for again. Lock-free; a few lost updates would do no harm, none are.
#[derive(Debug)]
pub(crate) struct Allowance {
    percent: u8,
    left: AtomicI64,
}

impl Allowance {
    /// `percent` of the bytes delivered; 0 allows none.
    pub(crate) fn new(percent: u8) -> Allowance {
        Allowance { percent, left: AtomicI64::new(if percent == 0 { 0 } else { KEPT_MAX }) }
    }

    /// `bytes` were delivered.
    pub(crate) fn earn(&self, bytes: u64) {
        let earned = i64::try_from(bytes / 100 * u64::from(self.percent) + bytes % 100 * u64::from(self.percent) / 100);
        self.change(earned.unwrap_or(KEPT_MAX));
    }

    /// `bytes` of it if it has them.
    pub(crate) fn take(&self, bytes: u32) -> bool {
        let bytes = i64::from(bytes);
        self.percent > 0
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= bytes).then(|| left - bytes))
                .is_ok()
    }

    /// `bytes` were asked for again without a choice.
    pub(crate) fn owe(&self, bytes: u32) {
        self.change(-i64::from(bytes));
    }

    /// `bytes` that were taken were not used.
    pub(crate) fn give_back(&self, bytes: u32) {
        self.change(bytes.into());
    }

    fn change(&self, bytes: i64) {
        if bytes == 0 || self.percent == 0 {
            return;
        }
        let changed = |left: i64| {
            let after = left.saturating_add(bytes).clamp(DEBT_MAX, KEPT_MAX);
            (after != left).then_some(after)
        };
        // Fails only where nothing changes.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 4 << 20;

    #[test]
    fn no_more_than_the_percentage_is_asked_again_in_the_long_run() {
        let allowance = Allowance::new(5);
        let mut again = 0u64;
        for _ in 0..10_000 {
            again += u64::from(allowance.take(BLOCK)) * u64::from(BLOCK);
            allowance.earn(BLOCK.into());
        }
        let delivered = 10_000 * u64::from(BLOCK);
        assert!(again <= delivered / 20 + KEPT_MAX as u64 && again >= delivered / 21, "{again} of {delivered}");
    }

    #[test]
    fn zero_percent_allows_nothing_and_unused_bytes_come_back() {
        let none = Allowance::new(0);
        none.earn(u64::MAX);
        none.give_back(BLOCK);
        assert!(!none.take(1));
        let some = Allowance::new(5);
        assert!((0..16).all(|_| some.take(BLOCK)) && !some.take(1));
        some.give_back(BLOCK);
        assert!(some.take(BLOCK));
        (0..1000).for_each(|_| some.owe(BLOCK));
        some.earn(20 * KEPT_MAX as u64);
        assert!(!some.take(1), "a debt is paid first");
        some.earn(u64::MAX);
        assert!(some.take(KEPT_MAX as u32) && !some.take(1), "and what is kept is bounded");
    }
}
