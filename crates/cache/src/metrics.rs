//! What the tiers count: bytes and reads by tier, time, failures.
//!
//! A [`Meter`] belongs to one cache and feeds both its own [`TierCounts`] and the process's metrics, so that two caches on one
//! registry still tell their own numbers. Every handle is resolved at start: counting looks nothing up.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shoal_runtime::metrics::{Counter, Gauge, Histogram, LATENCY_BUCKETS, Registry};
use shoal_types::{ErrorKind, Tier};

/// Number of tiers.
pub(crate) const TIERS: usize = Tier::ALL.len();

/// What one cache has delivered so far, by the tier it came from (indexed by `Tier as usize`).
///
/// Every byte handed to a caller is counted once, so the sum over tiers is what the callers got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierCounts {
    /// Reads answered; one that drew on several tiers counts under the farthest.
    pub reads: [u64; TIERS],
    /// Bytes delivered.
    pub bytes: [u64; TIERS],
    /// Requests sent to the object store.
    pub origin_requests: u64,
    /// Reads that failed.
    pub errors: u64,
}

impl TierCounts {
    /// Bytes delivered from `tier`.
    pub fn bytes_from(&self, tier: Tier) -> u64 {
        self.bytes[tier as usize]
    }

    /// Reads answered from `tier`.
    pub fn reads_from(&self, tier: Tier) -> u64 {
        self.reads[tier as usize]
    }

    /// Bytes delivered from all tiers.
    pub fn total_bytes(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// Why a place was passed over on the way to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// The connection failed, or the node said it cannot serve now.
    Unavailable,
    /// No progress within the time allowed.
    Timeout,
    /// The node is no owner by its own view of the ring.
    NotOwner,
    /// The node is at its limits.
    Busy,
    /// Its bytes failed a check.
    Corrupt,
    /// It refused this client.
    Denied,
    /// It says the object does not exist.
    NotFound,
    /// It failed or was slow a moment ago and was not asked.
    BackOff,
    /// It did not even say that it is there, and another place was faster.
    Hung,
    /// It holds the block and another place was faster.
    Slow,
    /// Anything else.
    Other,
}

impl SkipReason {
    const ALL: [SkipReason; 11] = [
        SkipReason::Unavailable,
        SkipReason::Timeout,
        SkipReason::NotOwner,
        SkipReason::Busy,
        SkipReason::Corrupt,
        SkipReason::Denied,
        SkipReason::NotFound,
        SkipReason::BackOff,
        SkipReason::Hung,
        SkipReason::Slow,
        SkipReason::Other,
    ];

    /// The reason as the metric's label spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            SkipReason::Unavailable => "unavailable",
            SkipReason::Timeout => "timeout",
            SkipReason::NotOwner => "not_owner",
            SkipReason::Busy => "busy",
            SkipReason::Corrupt => "corrupt",
            SkipReason::Denied => "denied",
            SkipReason::NotFound => "not_found",
            SkipReason::BackOff => "back_off",
            SkipReason::Hung => "hung",
            SkipReason::Slow => "slow",
            SkipReason::Other => "other",
        }
    }
}

/// What came of asking a second place while the first was late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HedgeOutcome {
    /// The second place gave the bytes.
    Won,
    /// The first one did after all.
    Lost,
    /// The second place did not have them, or failed.
    Failed,
    /// The share of bytes that may be asked for twice was used up: the first was waited for.
    Refused,
}

impl HedgeOutcome {
    const ALL: [HedgeOutcome; 4] = [HedgeOutcome::Won, HedgeOutcome::Lost, HedgeOutcome::Failed, HedgeOutcome::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            HedgeOutcome::Won => "won",
            HedgeOutcome::Lost => "lost",
            HedgeOutcome::Failed => "failed",
            HedgeOutcome::Refused => "refused",
        }
    }
}

/// This crate's metrics.
#[derive(Debug)]
pub(crate) struct CacheMetrics {
    bytes: [Counter; TIERS],
    reads: [Counter; TIERS],
    duration: [Histogram; TIERS],
    origin_requests: Counter,
    errors: [Counter; ErrorKind::ALL.len()],
    skips: [Counter; SkipReason::ALL.len()],
    fills: Gauge,
    hedges: [Counter; HedgeOutcome::ALL.len()],
    hedge_bytes: Counter,
    avoided: Gauge,
    in_flight: Gauge,
}

impl CacheMetrics {
    /// Registers them, or finds them on a registry that has them.
    pub(crate) fn register(registry: &Registry) -> CacheMetrics {
        let bytes = registry.counters("shoal_cache_read_bytes_total", "Bytes delivered, by tier.", &["tier"]);
        let reads = registry.counters("shoal_cache_reads_total", "Reads answered, by tier.", &["tier"]);
        let duration = registry.histograms(
            "shoal_cache_read_duration_seconds",
            "Time from the ask to the last byte handed over, by tier; RAM hits on the client's fast path are left out.",
            &["tier"],
            LATENCY_BUCKETS,
        );
        let errors = registry.counters("shoal_cache_errors_total", "Reads that failed, by kind.", &["kind"]);
        let skips = registry.counters(
            "shoal_cache_skips_total",
            "Nodes passed over on the way to the next place, by reason.",
            &["reason"],
        );
        let hedges = registry.counters(
            "shoal_cache_hedges_total",
            "Blocks asked of a second place while the first was late, by what came of it.",
            &["outcome"],
        );
        let tier = |i: usize| Tier::ALL[i].as_str();
        CacheMetrics {
            bytes: array::from_fn(|i| bytes.with(&[tier(i)])),
            reads: array::from_fn(|i| reads.with(&[tier(i)])),
            duration: array::from_fn(|i| duration.with(&[tier(i)])),
            origin_requests: registry
                .counter("shoal_cache_origin_requests_total", "Requests sent to the object store for blocks."),
            errors: array::from_fn(|i| errors.with(&[ErrorKind::ALL[i].as_str()])),
            skips: array::from_fn(|i| skips.with(&[SkipReason::ALL[i].as_str()])),
            fills: registry.gauge("shoal_cache_fills", "Blocks being fetched at this moment."),
            hedges: array::from_fn(|i| hedges.with(&[HedgeOutcome::ALL[i].as_str()])),
            hedge_bytes: registry.counter(
                "shoal_cache_hedge_bytes_total",
                "Bytes asked of a second place while the first was late; at most so many came twice.",
            ),
            avoided: registry.gauge(
                "shoal_cache_avoided_nodes",
                "Nodes this client leaves alone for a while because they failed or are far slower than the others.",
            ),
            in_flight: registry.gauge("shoal_cache_in_flight_bytes", "Bytes asked of nodes and not yet received."),
        }
    }
}

/// Counts for one cache.
#[derive(Debug)]
pub(crate) struct Meter {
    metrics: CacheMetrics,
    reads: [AtomicU64; TIERS],
    bytes: [AtomicU64; TIERS],
    origin_requests: AtomicU64,
    errors: AtomicU64,
}

impl Meter {
    /// A meter at zero that also feeds `registry`.
    pub(crate) fn new(registry: &Registry) -> Meter {
        Meter {
            metrics: CacheMetrics::register(registry),
            reads: Default::default(),
            bytes: Default::default(),
            origin_requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// `bytes` from `tier` were handed to a caller.
    pub(crate) fn delivered(&self, tier: Tier, bytes: usize) {
        self.bytes[tier as usize].fetch_add(bytes as u64, Ordering::Relaxed);
        self.metrics.bytes[tier as usize].add(bytes as u64);
    }

    /// A read was answered from `tier`.
    pub(crate) fn answered(&self, tier: Tier) {
        self.reads[tier as usize].fetch_add(1, Ordering::Relaxed);
        self.metrics.reads[tier as usize].inc();
    }

    /// The last byte of a read from `tier` was handed over `taken` after the ask.
    pub(crate) fn completed(&self, tier: Tier, taken: Duration) {
        self.metrics.duration[tier as usize].observe_duration(taken);
    }

    /// A read failed.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.metrics.errors[kind as usize].inc();
    }

    /// A request goes to the object store.
    pub(crate) fn origin_request(&self) {
        self.origin_requests.fetch_add(1, Ordering::Relaxed);
        self.metrics.origin_requests.inc();
    }

    /// A node was passed over.
    pub(crate) fn skipped(&self, reason: SkipReason) {
        self.metrics.skips[reason as usize].inc();
    }

    /// A second place was asked for `bytes`, and this came of it.
    pub(crate) fn hedged(&self, outcome: HedgeOutcome, bytes: u32) {
        self.metrics.hedges[outcome as usize].inc();
        self.metrics.hedge_bytes.add(bytes.into());
    }

    /// The gauge of nodes that are left alone.
    pub(crate) fn avoided(&self) -> Gauge {
        self.metrics.avoided.clone()
    }

    /// The gauge of bytes asked of nodes.
    pub(crate) fn in_flight(&self) -> Gauge {
        self.metrics.in_flight.clone()
    }

    /// Counts one block as being fetched for as long as the guard lives.
    pub(crate) fn fetching(&self) -> Fetching {
        self.metrics.fills.inc();
        Fetching(self.metrics.fills.clone())
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> TierCounts {
        let load = |counters: &[AtomicU64; TIERS]| array::from_fn(|i| counters[i].load(Ordering::Relaxed));
        TierCounts {
            reads: load(&self.reads),
            bytes: load(&self.bytes),
            origin_requests: self.origin_requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

/// One block being fetched, in the gauge.
#[derive(Debug)]
pub(crate) struct Fetching(Gauge);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_where_their_number_says() {
        for (i, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i);
        }
        for (i, reason) in SkipReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
        for (i, outcome) in HedgeOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, i);
        }
        for (i, tier) in Tier::ALL.iter().enumerate() {
            assert_eq!(*tier as usize, i);
        }
    }

    #[test]
    fn two_meters_on_one_registry_keep_their_own_counts() {
        let registry = Registry::new();
        let (a, b) = (Meter::new(&registry), Meter::new(&registry));
        a.delivered(Tier::Peer, 10);
        a.answered(Tier::Peer);
        b.delivered(Tier::Origin, 5);
        b.failed(ErrorKind::Timeout);
        b.origin_request();
        b.skipped(SkipReason::NotOwner);
        assert_eq!((a.counts().bytes_from(Tier::Peer), a.counts().reads_from(Tier::Peer)), (10, 1));
        assert_eq!((a.counts().total_bytes(), b.counts().total_bytes()), (10, 5));
        assert_eq!((b.counts().errors, b.counts().origin_requests), (1, 1));
        let text = registry.gather_text();
        assert!(text.contains("shoal_cache_skips_total{reason=\"not_owner\"} 1"), "{text}");
        assert!(text.contains("shoal_cache_errors_total{kind=\"timeout\"} 1"), "{text}");
    }
}
