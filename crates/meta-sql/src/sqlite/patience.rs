//! Waiting for other programs' locks.

use std::time::Duration;

use shoal_runtime::clock;

use crate::failure::sqlite::is_locked;

/// First pause before a lock is asked for again.
const PAUSE_MIN: Duration = Duration::from_micros(200);
/// Longest one.
const PAUSE_MAX: Duration = Duration::from_millis(25);

/// Tries again while somebody else has a lock that `attempt` on `connection` needs, for `patience` at most.
pub(crate) async fn patiently<C, T>(
    connection: &mut C,
    patience: Duration,
    attempt: impl Fn(&C) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut pause = PAUSE_MIN;
    let mut waited = Duration::ZERO;
    loop {
        match attempt(connection) {
            Err(error) if is_locked(&error) && waited < patience => {
                clock::sleep(pause).await;
                waited += pause;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            done => return done,
        }
    }
}
