//! A bound on bytes held at once: whoever buffers takes a permit first and waits its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes shared by clones; waiters are served strictly in order of arrival, so a large request cannot starve.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    /// One permit of the semaphore stands for `1 << shift` bytes; 0 up to 4 GiB, so that requests are exact there.
    shift: u32,
    capacity: u32,
    used: AtomicU64,
    permits: Arc<Semaphore>,
}

/// Bytes taken from a [`Budget`]; they return when it is dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    bytes: u64,
    held: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `bytes`. With zero every request is granted at once and holds nothing.
    pub fn new(bytes: u64) -> Budget {
        let shift = (u64::BITS - bytes.leading_zeros()).saturating_sub(u32::BITS);
        let capacity = u32::try_from(bytes >> shift).unwrap_or(u32::MAX);
        let permits = Arc::new(Semaphore::new(capacity as usize));
        Budget { shared: Arc::new(Shared { limit: bytes, shift, capacity, used: AtomicU64::new(0), permits }) }
    }

    /// `bytes` of the budget, after everyone who asked earlier.
    ///
    /// A request larger than the limit waits until nothing else is held and then holds all of it. Cancel-safe: dropping the
    /// future gives up its place.
    pub async fn acquire(&self, bytes: u64) -> Permit {
        let held = Arc::clone(&self.shared.permits).acquire_many_owned(self.shared.units(bytes)).await;
        self.granted(bytes, held.expect("this semaphore is never closed"))
    }

    /// `bytes` of the budget if they are free and nobody waits for them; never blocks.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let held = Arc::clone(&self.shared.permits).try_acquire_many_owned(self.shared.units(bytes)).ok()?;
        Some(self.granted(bytes, held))
    }

    /// The bytes this budget was made with.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Bytes held by living permits, at most [`Budget::limit`].
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }

    fn granted(&self, bytes: u64, held: OwnedSemaphorePermit) -> Permit {
        let bytes = bytes.min(self.shared.limit);
        self.shared.used.fetch_add(bytes, Ordering::Relaxed);
        Permit { shared: Arc::clone(&self.shared), bytes, held }
    }
}

impl Shared {
    fn units(&self, bytes: u64) -> u32 {
        let units = bytes.div_ceil(1 << self.shift);
        u32::try_from(units).unwrap_or(u32::MAX).min(self.capacity)
    }
}

impl Permit {
    /// Bytes this permit holds: what was asked for, or the whole limit if more was asked.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what exceeds `bytes`; for a buffer that turned out smaller than planned. Never grows.
    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            return;
        }
        let surplus = self.held.num_permits().saturating_sub(self.shared.units(bytes) as usize);
        self.shared.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
        drop(self.held.split(surplus));
    }

    /// Takes `bytes` out of this permit into one of their own, at most all of it.
    pub fn split(&mut self, bytes: u64) -> Permit {
        let bytes = bytes.min(self.bytes);
        let units = if bytes == self.bytes { u32::MAX } else { self.shared.units(bytes) };
        let held = self.held.split(self.held.num_permits().min(units as usize));
        self.bytes -= bytes;
        Permit { shared: Arc::clone(&self.shared), bytes, held: held.expect("no more than it holds is asked for") }
    }

    /// Takes over what `other` holds. Panics if that is of another budget.
    pub fn merge(&mut self, mut other: Permit) {
        let all = other.held.num_permits();
        self.held.merge(other.held.split(all).expect("it holds what it holds"));
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::polled::{poll, ready};

    #[test]
    fn held_bytes_never_exceed_the_limit_and_return_on_drop() {
        let budget = Budget::new(100);
        let first = budget.try_acquire(60).unwrap();
        assert!(budget.try_acquire(41).is_none());
        let second = budget.try_acquire(40).unwrap();
        assert_eq!((budget.used(), budget.limit()), (100, 100));
        drop(first);
        assert_eq!(budget.used(), 40);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_small_request_does_not_overtake_a_large_one_that_waits() {
        let budget = Budget::new(100);
        let first = budget.try_acquire(50).unwrap();
        let mut large = pin!(budget.acquire(80));
        assert!(poll(large.as_mut()).is_pending());
        let mut small = pin!(budget.acquire(10));
        assert!(poll(small.as_mut()).is_pending());
        assert!(budget.try_acquire(10).is_none());
        drop(first);
        let large = ready(poll(large.as_mut()));
        let small = ready(poll(small.as_mut()));
        assert_eq!((large.bytes(), small.bytes(), budget.used()), (80, 10, 90));
    }

    #[test]
    fn a_waiter_that_gives_up_lets_the_next_one_through() {
        let budget = Budget::new(100);
        let _first = budget.try_acquire(50).unwrap();
        let mut large = Box::pin(budget.acquire(80));
        assert!(poll(large.as_mut()).is_pending());
        let mut small = pin!(budget.acquire(10));
        assert!(poll(small.as_mut()).is_pending());
        drop(large);
        assert_eq!(ready(poll(small.as_mut())).bytes(), 10);
    }

    #[test]
    fn a_request_above_the_limit_waits_for_all_of_it() {
        let budget = Budget::new(100);
        let first = budget.try_acquire(1).unwrap();
        let mut huge = pin!(budget.acquire(u64::MAX));
        assert!(poll(huge.as_mut()).is_pending());
        drop(first);
        let huge = ready(poll(huge.as_mut()));
        assert_eq!((huge.bytes(), budget.used()), (100, 100));
        assert!(budget.try_acquire(1).is_none());
    }

    #[test]
    fn a_permit_shrinks_and_never_grows() {
        let budget = Budget::new(100);
        let mut permit = budget.try_acquire(100).unwrap();
        permit.shrink_to(200);
        assert_eq!(permit.bytes(), 100);
        permit.shrink_to(30);
        assert_eq!((permit.bytes(), budget.used()), (30, 30));
        assert_eq!(budget.try_acquire(70).unwrap().bytes(), 70);
        permit.shrink_to(0);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn permits_split_and_merge_without_loss() {
        for (limit, part) in [(100, 30), (1 << 40, (1 << 30) + 7)] {
            let budget = Budget::new(limit);
            let mut first = budget.try_acquire(2 * part).unwrap();
            let mut second = first.split(part);
            assert_eq!((first.bytes(), second.bytes(), budget.used()), (part, part, 2 * part));
            assert_eq!(second.split(u64::MAX).bytes(), part);
            assert_eq!((second.bytes(), budget.used()), (0, part));
            second.merge(budget.try_acquire(5).unwrap());
            first.merge(second);
            assert_eq!((first.bytes(), budget.used()), (part + 5, part + 5));
            first.shrink_to(1);
            drop(first);
            assert_eq!(budget.try_acquire(limit).unwrap().bytes(), limit, "everything came back");
        }
    }

    #[test]
    fn limits_beyond_four_gib_still_bound_their_users() {
        for limit in [u64::from(u32::MAX), 1 << 32, (1 << 40) + 12_345, u64::MAX] {
            let budget = Budget::new(limit);
            let all = budget.try_acquire(limit).unwrap();
            assert_eq!(all.bytes(), limit);
            assert!(budget.try_acquire(1).is_none(), "limit {limit}");
            drop(all);
            let half = budget.try_acquire(limit / 2).unwrap();
            assert!(budget.try_acquire(limit / 2 + limit / 8).is_none(), "limit {limit}");
            drop(half);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn empty_requests_and_empty_budgets_are_granted() {
        assert_eq!(Budget::new(10).try_acquire(0).unwrap().bytes(), 0);
        assert_eq!(Budget::new(0).try_acquire(5).unwrap().bytes(), 0);
    }
}
