//! Runs an operation in a transaction, again while other writers are in its way (spec section 25).

use std::time::Duration;

use async_trait::async_trait;
use shoal_runtime::{clock, rng};

use crate::engine::{Engine, Txn};
use crate::error::MetaError;

/// Most attempts at one operation; JuiceFS makes as many.
const ATTEMPTS: u32 = 50;
/// After this long no further attempt is begun, so that a caller learns of a stuck writer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A change of a volume's metadata: runs in one transaction, possibly several times.
#[async_trait]
pub trait Operation: Send + Sync {
    /// What it gives once committed.
    type Output: Send;
    /// Reads and writes through `txn`. Must leave no trace outside it, because it may run again.
    async fn run(&self, txn: &dyn Txn) -> Result<Self::Output, MetaError>;
}

/// Runs `operation` and commits it. Tries again while it is [`MetaError::Contended`], at most 50 times and 30 seconds.
pub async fn transact<O: Operation>(engine: &dyn Engine, operation: &O) -> Result<O::Output, MetaError> {
    let start = clock::now();
    let mut attempt = 0;
    loop {
        match attempt_once(engine, operation).await {
            Err(MetaError::Contended { at }) => {
                attempt += 1;
                let waited = clock::now().saturating_duration_since(start);
                if attempt >= ATTEMPTS || waited >= PATIENCE {
                    return Err(MetaError::Contended { at });
                }
                clock::sleep(rng::jitter(pause(attempt), 0.5)).await;
            }
            done => return done,
        }
    }
}

async fn attempt_once<O: Operation>(engine: &dyn Engine, operation: &O) -> Result<O::Output, MetaError> {
    let txn = engine.begin().await?;
    let output = operation.run(txn.as_ref()).await?;
    txn.commit().await?;
    Ok(output)
}

/// `attempt`² milliseconds, at most [`PAUSE_MAX`].
fn pause(attempt: u32) -> Duration {
    Duration::from_millis(u64::from(attempt).pow(2)).min(PAUSE_MAX)
}
