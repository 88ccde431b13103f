//! A bound on bytes shared by work of several ranks: whoever is most urgent gets what comes free, whoever came when.
//!
//! [`crate::budget::Budget`] serves in order of arrival; here a read a program waits for passes all read-ahead that waits. Within
//! a rank the order is that of arrival. A lower rank gets nothing while a higher one waits: who shares such a bound must see to it
//! that the higher ranks end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Number of ranks; 0 is the most urgent.
pub const RANKS: usize = 4;

/// A number of bytes shared by clones.
#[derive(Debug, Clone)]
pub struct RankedBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: i64,
    free: AtomicI64,
    /// Waiters in the queues. Written under their lock; read without it by whoever gives bytes back.
    waiting: AtomicUsize,
    queues: Mutex<[VecDeque<Waiter>; RANKS]>,
}

#[derive(Debug)]
struct Waiter {
    bytes: i64,
    grant: oneshot::Sender<RankedPermit>,
}

/// Bytes taken from a [`RankedBudget`]; they return when it is dropped.
#[derive(Debug)]
pub struct RankedPermit {
    shared: Arc<Shared>,
    bytes: i64,
}

impl RankedBudget {
    /// A budget of `bytes`. With zero every request is granted at once and holds nothing.
    pub fn new(bytes: u64) -> RankedBudget {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        RankedBudget(Arc::new(Shared {
            limit,
            free: AtomicI64::new(limit),
            waiting: AtomicUsize::new(0),
            queues: Mutex::default(),
        }))
    }

    /// `bytes` of the budget, after everyone of this rank who asked earlier and everyone of a more urgent one. Ranks beyond the
    /// last count as the last.
    ///
    /// A request larger than the limit waits until nothing else is held and then holds all of it. Without a lock where nobody
    /// waits. Cancel-safe: dropping the future gives up its place.
    pub async fn acquire(&self, rank: usize, bytes: u64) -> RankedPermit {
        if let Some(permit) = self.try_acquire(bytes) {
            return permit;
        }
        // Dropped after the receiver: who gives up lets those behind it try.
        let gone = ServeOnDrop(&self.0);
        let (grant, granted) = oneshot::channel();
        {
            let mut queues = self.0.queues.lock();
            queues[rank.min(RANKS - 1)].push_back(Waiter { bytes: self.0.cost(bytes), grant });
            self.0.waiting.fetch_add(1, Ordering::SeqCst);
        }
        // What came free before the waiter stood in the queue.
        serve(&self.0);
        let permit = granted.await.expect("a waiter leaves the queue with a permit or when nobody waits for it");
        std::mem::forget(gone);
        permit
    }

    /// `bytes` of the budget if they are free and nobody waits for any; never blocks.
    pub fn try_acquire(&self, bytes: u64) -> Option<RankedPermit> {
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let bytes = self.0.cost(bytes);
        self.0.take(bytes).then(|| RankedPermit { shared: Arc::clone(&self.0), bytes })
    }

    /// The bytes this budget was made with.
    pub fn limit(&self) -> u64 {
        self.0.limit.unsigned_abs()
    }

    /// Bytes held by living permits, at most [`RankedBudget::limit`].
    pub fn used(&self) -> u64 {
        (self.0.limit - self.0.free.load(Ordering::Relaxed)).max(0).unsigned_abs()
    }
}

impl RankedPermit {
    /// Bytes this permit holds.
    pub fn bytes(&self) -> u64 {
        self.bytes.unsigned_abs()
    }

    /// Gives back what exceeds `bytes`. Never grows.
    pub fn shrink_to(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(self.bytes);
        let surplus = self.bytes - bytes;
        self.bytes = bytes;
        give_back(&self.shared, surplus);
    }
}

impl Drop for RankedPermit {
    fn drop(&mut self) {
        give_back(&self.shared, self.bytes);
    }
}

impl Shared {
    fn cost(&self, bytes: u64) -> i64 {
        i64::try_from(bytes).unwrap_or(i64::MAX).min(self.limit)
    }

    fn take(&self, bytes: i64) -> bool {
        let fits = |free: i64| (free >= bytes).then(|| free - bytes);
        self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    /// The next waiter that gets its bytes now, with the bytes taken.
    fn next(&self) -> Option<Waiter> {
        let mut queues = self.queues.lock();
        for queue in queues.iter_mut() {
            while let Some(first) = queue.front() {
                let gone = first.grant.is_closed();
                if !gone && !self.take(first.bytes) {
                    return None;
                }
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                let waiter = queue.pop_front();
                if !gone {
                    return waiter;
                }
            }
        }
        None
    }
}

fn give_back(shared: &Arc<Shared>, bytes: i64) {
    if bytes > 0 {
        shared.free.fetch_add(bytes, Ordering::SeqCst);
        if shared.waiting.load(Ordering::SeqCst) > 0 {
            serve(shared);
        }
    }
}

/// Gives the free bytes to those who wait.
fn serve(shared: &Arc<Shared>) {
    while let Some(Waiter { bytes, grant }) = shared.next() {
        // If nobody waits any more, the permit comes back and is dropped here, outside of the lock.
        drop(grant.send(RankedPermit { shared: Arc::clone(shared), bytes }));
    }
}

struct ServeOnDrop<'a>(&'a Arc<Shared>);

impl Drop for ServeOnDrop<'_> {
    fn drop(&mut self) {
        serve(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::polled::{poll, ready};

    #[test]
    fn the_most_urgent_waiter_is_served_first_and_equals_in_order() {
        let budget = RankedBudget::new(100);
        let all = budget.try_acquire(100).unwrap();
        let mut late = pin!(budget.acquire(2, 60));
        let mut second = pin!(budget.acquire(1, 60));
        let mut third = pin!(budget.acquire(1, 10));
        let mut urgent = pin!(budget.acquire(0, 60));
        assert!(poll(late.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending() && poll(urgent.as_mut()).is_pending());
        drop(all);
        let held = ready(poll(urgent.as_mut()));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending(), "it came after a larger one of its rank");
        drop(held);
        let (second, third) = (ready(poll(second.as_mut())), ready(poll(third.as_mut())));
        assert!(poll(late.as_mut()).is_pending());
        drop((second, third));
        assert_eq!(ready(poll(late.as_mut())).bytes(), 60);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_gives_up_lets_the_next_one_through_and_loses_no_bytes() {
        let budget = RankedBudget::new(100);
        let held = budget.try_acquire(50).unwrap();
        let mut large = Box::pin(budget.acquire(0, 80));
        let mut small = pin!(budget.acquire(0, 10));
        assert!(poll(large.as_mut()).is_pending() && poll(small.as_mut()).is_pending());
        drop(large);
        assert_eq!(ready(poll(small.as_mut())).bytes(), 10);
        // Granted and then given up before anyone looked.
        let mut granted = Box::pin(budget.acquire(0, 80));
        assert!(poll(granted.as_mut()).is_pending());
        drop(held);
        drop(granted);
        assert_eq!(budget.try_acquire(100).unwrap().bytes(), 100);
    }

    #[test]
    fn nobody_passes_a_waiter_and_shrinking_feeds_it() {
        let budget = RankedBudget::new(100);
        let mut held = budget.try_acquire(100).unwrap();
        let mut waiter = pin!(budget.acquire(3, 30));
        assert!(poll(waiter.as_mut()).is_pending());
        held.shrink_to(200);
        held.shrink_to(80);
        assert!(budget.try_acquire(1).is_none(), "what is free is for the one who waits");
        held.shrink_to(70);
        let waiter = ready(poll(waiter.as_mut()));
        assert_eq!((held.bytes(), waiter.bytes(), budget.used(), budget.limit()), (70, 30, 100, 100));
    }

    #[test]
    fn requests_beyond_the_limit_and_empty_ones_end() {
        let budget = RankedBudget::new(100);
        let held = budget.try_acquire(1).unwrap();
        let mut huge = pin!(budget.acquire(9, u64::MAX));
        assert!(poll(huge.as_mut()).is_pending());
        drop(held);
        assert_eq!(ready(poll(huge.as_mut())).bytes(), 100);
        assert_eq!(RankedBudget::new(0).try_acquire(5).unwrap().bytes(), 0);
        assert_eq!(budget.try_acquire(0).unwrap().bytes(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_users_at_once_never_exceed_the_limit_and_all_are_served() {
        let budget = RankedBudget::new(1000);
        let users: Vec<_> = (0..64usize)
            .map(|user| {
                let budget = budget.clone();
                crate::task::spawn("user", async move {
                    for round in 0..200u64 {
                        let bytes = 1 + (user as u64 * 37 + round * 11) % 400;
                        let permit = budget.acquire(user % RANKS, bytes).await;
                        assert!(budget.used() <= 1000);
                        if round % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                        drop(permit);
                    }
                })
            })
            .collect();
        for user in users {
            user.await.unwrap();
        }
        assert_eq!(budget.used(), 0);
    }
}
