//! The one clock. Monotonic time comes from tokio, so a test that pauses tokio's time moves every reader of this module.
#![expect(clippy::disallowed_methods, reason = "this module is what the rest of the workspace calls instead")]

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time allowed ran out before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no result within {limit:?}")]
pub struct Elapsed {
    /// The time that was allowed.
    pub limit: Duration,
}

/// Monotonic now. Under tokio's paused time it is the paused clock's now. Callable outside a runtime.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Time since 1970-01-01 UTC by the machine's wall clock; zero if that clock stands before 1970. Not moved by paused time, except in
/// a simulation.
pub fn unix_now() -> Duration {
    #[cfg(feature = "testing")]
    if let Some(simulated) = crate::simulation::unix_now(now()) {
        return simulated;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The hour of the day, 0 to 23, by the machine's wall clock and time zone.
pub fn local_hour() -> u8 {
    let now = jiff::Timestamp::from_second(unix_now().as_secs() as i64).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::system()).hour() as u8
}

/// Returns after `duration` has passed. Needs a tokio runtime. Cancel-safe.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Returns once [`now`] has reached `deadline`, at once if it lies in the past. Needs a tokio runtime. Cancel-safe.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

/// The output of `future`, or [`Elapsed`] if it is not ready within `limit`; the future is then dropped.
///
/// A future that is ready at its first poll wins even if `limit` is zero. As cancel-safe as `future` is.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, future).await.map_err(|_| Elapsed { limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_now_and_sleep_together() {
        let start = now();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(now() - start, Duration::from_secs(3600));
        sleep_until(start).await;
        assert_eq!(now() - start, Duration::from_secs(3600));
        sleep_until(start + Duration::from_secs(7200)).await;
        assert_eq!(now() - start, Duration::from_secs(7200));
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_gives_the_output_or_the_limit_that_passed() {
        let limit = Duration::from_secs(5);
        assert_eq!(timeout(limit, async { 7 }).await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        assert_eq!(timeout(limit, std::future::pending::<()>()).await, Err(Elapsed { limit }));
    }

    #[test]
    fn now_works_outside_a_runtime_and_never_goes_back() {
        let first = now();
        assert!(now() >= first);
        assert!(unix_now() > Duration::from_secs(1_700_000_000));
    }
}
