//! Waiting for a condition with a bound, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// A bound for waits that only a fault reaches, even on two cores that others load and with a disk that others keep busy.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// Blocks the thread until `condition` holds; panics with `what` after `limit`. For tests without a runtime.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(poll_until(limit, condition), "{what}: still not so after {limit:?}");
}

/// Whether `condition` held before `limit` had passed; it is looked at once at least.
#[expect(clippy::disallowed_methods, reason = "this is the bounded wait that tests use instead of sleeping")]
pub(crate) fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// [`wait_until`] for async tests: other tasks run between two looks, and paused time is stepped through.
#[expect(clippy::disallowed_methods, reason = "this is the bounded wait that tests use instead of sleeping")]
pub async fn wait_until_async(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "{what}: still not so after {limit:?}");
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_when_the_condition_holds() {
        let mut looks = 0;
        wait_until("third look", PATIENCE, || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    #[should_panic(expected = "the moon is green: still not so after 0ns")]
    fn names_what_did_not_happen() {
        wait_until("the moon is green", Duration::ZERO, || false);
    }

    #[tokio::test(start_paused = true)]
    async fn async_waits_step_through_paused_time() {
        let start = tokio::time::Instant::now();
        let hour = Duration::from_secs(3600);
        wait_until_async("an hour passed", 2 * hour, async || start.elapsed() >= hour).await;
    }
}
