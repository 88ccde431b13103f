//! Where a volume's objects are, and how patiently they are asked for.

use std::{fmt, time::Duration};

/// The storage part of a volume's setting: type, bucket and credentials (already in plain text).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// Storage type as JuiceFS names it: `file`, `s3`, `mem`.
    pub storage: String,
    /// Directory for `file`; bucket URL for `s3` (see [`crate::s3_url`]); any name for `mem`.
    pub bucket: String,
    /// Access key; empty = environment, profile or instance credentials; `anonymous` = unsigned requests.
    pub access_key: String,
    /// Secret key that belongs to `access_key`.
    pub secret_key: String,
    /// Session token of temporary credentials; empty = none.
    pub session_token: String,
    /// Storage class of what is put, as the store spells it; empty = the bucket's. Stores without classes pass over it.
    pub storage_class: String,
}

impl fmt::Debug for Location {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Location")
            .field("storage", &self.storage)
            .field("bucket", &self.bucket)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// How patiently a store is asked, and by how many at once.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectOptions {
    /// Longest wait of one GET, HEAD, DELETE or LIST attempt for the head of the answer. 60 s, as JuiceFS waits.
    pub get_timeout: Duration,
    /// Longest time of one PUT attempt, its upload included. 60 s: a 4 MiB block at 70 KB/s.
    pub put_timeout: Duration,
    /// Longest wait for the next bytes of a body, by a reader that is waiting. 20 s: far above any pause of a working
    /// connection, far below what a training job may lose to a dead one.
    pub idle_timeout: Duration,
    /// Longest time to open a TCP and TLS connection. 10 s: a SYN is repeated three times in that time.
    pub connect_timeout: Duration,
    /// Further attempts after a first one that failed as `Unavailable` or `Timeout`, for one call, the resumes of its
    /// body included. 10, as JuiceFS.
    pub retries: u32,
    /// Pause between attempts.
    pub backoff: Backoff,
    /// Most GETs (HEADs and LISTs with them) in flight, bodies included, and separately most PUTs and DELETEs. 200.
    pub max_concurrent: usize,
    /// Bytes sent a second, at most; 0 = no bound, the default.
    pub upload_bytes_per_s: u64,
    /// Bytes received a second, at most; 0 = no bound, the default.
    pub download_bytes_per_s: u64,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        ObjectOptions {
            get_timeout: Duration::from_secs(60),
            put_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            retries: 10,
            backoff: Backoff::default(),
            max_concurrent: 200,
            upload_bytes_per_s: 0,
            download_bytes_per_s: 0,
        }
    }
}

/// Pauses that double from `first` to `max`, each spread by up to `jitter` of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// Pause before the first repetition. 50 ms.
    pub first: Duration,
    /// Longest pause. 5 s: ten repetitions then span about 20 s, longer than a load balancer's switch.
    pub max: Duration,
    /// Share of a pause that is random, 0.0..=1.0, so that clients cut off together do not return together. 0.5.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_millis(50), max: Duration::from_secs(5), jitter: 0.5 }
    }
}

impl Backoff {
    /// The pause before repetition `retry` (0 = the first one), without its random share.
    pub fn pause(&self, retry: u32) -> Duration {
        let factor = 1u32.checked_shl(retry).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_secrets() {
        let location = Location {
            storage: "s3".into(),
            bucket: "b".into(),
            access_key: "AK".into(),
            secret_key: "very-secret".into(),
            session_token: "also-secret".into(),
            storage_class: String::new(),
        };
        let text = format!("{location:?}");
        assert!(text.contains("AK") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(5), jitter: 0.5 };
        let pauses: Vec<_> = [0, 1, 2, 6, 7, 31, 32, u32::MAX].map(|n| backoff.pause(n).as_millis()).into();
        assert_eq!(pauses, [50, 100, 200, 3200, 5000, 5000, 5000, 5000]);
    }
}
