//! The origin as a client's last place: what nobody else gave comes from here, or not at all.

use std::sync::Arc;
use std::time::Duration;

use shoal_object::ObjectStore;
use shoal_types::{ErrorKind, Tier};

use crate::arrival::Arrival;
use crate::error::CacheError;
use crate::intake::{Intake, TooMany};
use crate::metrics::Meter;
use crate::origin;

/// Answers of the origin that break off and are continued, for one fetch, beyond what the object store itself retries. Only an
/// answer that gave bytes is continued.
const RESUMES_MAX: u32 = 4;

/// The object store behind a client.
#[derive(Debug)]
pub(crate) struct LastResort {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Longest silence of it.
    pub(crate) patience: Duration,
    pub(crate) meter: Arc<Meter>,
}

impl LastResort {
    /// The rest from the origin, which has failed with `failure` already if there is one; an answer that breaks off after some
    /// bytes is continued.
    pub(crate) async fn finish(&self, intake: &mut Intake<'_>, failure: Option<CacheError>) -> Result<(), CacheError> {
        if let Some(error) = failure.filter(|error| !may_pass(error.kind())) {
            return Err(error);
        }
        intake.drop_unproven();
        for _ in 0..RESUMES_MAX {
            let before = intake.at();
            match self.ask(intake).await {
                Err(error) if intake.at() > before && may_pass(error.kind()) => {
                    tracing::debug!(key = %intake.key, %error, at = intake.at(), "the origin broke off; continuing");
                }
                result => return result,
            }
        }
        self.ask(intake).await
    }

    async fn ask(&self, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        let wanted = intake.wanted();
        let all = intake.wants_all();
        self.meter.origin_request();
        let range = (!all).then_some(wanted);
        let mut body = origin::open(self.store.as_ref(), intake.key, range, self.patience).await?;
        if let Some(block_len) = body.block_len() {
            intake.accept(block_len)?;
        }
        let mut pos = wanted.start;
        while let Some(bytes) = body.next().await? {
            let len = bytes.len() as u32;
            let TooMany = match intake.take(pos, Arrival::Borrowed(bytes), Tier::Origin) {
                Ok(()) => {
                    pos += len;
                    continue;
                }
                Err(too_many) => too_many,
            };
            let (want, got) = (u64::from(wanted.len()), u64::from(pos - wanted.start + len));
            return Err(CacheError::Length { key: intake.key.clone(), want, got });
        }
        Ok(())
    }
}

/// True for failures that another attempt may not meet and that say nothing against the bytes before them.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
}
