//! How many further requests may be sent because earlier ones are slow: a share of all.

use std::sync::atomic::{AtomicI64, Ordering};

/// What one request earns, in hundredths of a further one: 5 %.
const EARNED: i64 = 5;
/// What a further one costs.
const COST: i64 = 100;
/// What is kept at most, and what there is to begin with: 20 and 8 further requests, so that a burst of slow answers is met.
const KEPT_MAX: i64 = 20 * COST;
const AT_START: i64 = 8 * COST;

/// Further requests one store may be sent.
#[derive(Debug)]
pub(crate) struct Extra(AtomicI64);

impl Default for Extra {
    fn default() -> Extra {
        Extra(AtomicI64::new(AT_START))
    }
}

impl Extra {
    /// A request was sent that a caller asked for.
    pub(crate) fn earn(&self) {
        let earned = |left: i64| (left < KEPT_MAX).then(|| (left + EARNED).min(KEPT_MAX));
        // Fails only where there is nothing to add.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned);
    }

    /// Takes the right to one further request, if there is one.
    pub(crate) fn take(&self) -> bool {
        let taken = |left: i64| (left >= COST).then(|| left - COST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_all_requests_may_be_sent_again() {
        let extra = Extra::default();
        let sent = (0..10_000).filter(|_| {
            extra.earn();
            extra.take()
        });
        let sent = sent.count();
        assert!((500..=508).contains(&sent), "{sent}");
        (0..10_000).for_each(|_| extra.earn());
        assert_eq!((0..100).filter(|_| extra.take()).count(), 20);
    }
}
