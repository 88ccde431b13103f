//! Metrics of this crate.

use shoal_runtime::metrics::{Counter, Histogram, LATENCY_BUCKETS, Registry};
use shoal_types::ErrorKind;

use crate::Op;

/// The counters one store writes to; stores opened with one registry share them.
#[derive(Debug)]
pub(crate) struct ObjectMetrics {
    /// By operation, then outcome: `ok` first, then the error kinds.
    requests: Vec<Vec<Counter>>,
    durations: Vec<Histogram>,
    read_bytes: Counter,
    written_bytes: Counter,
    retries: Counter,
    hedges: Counter,
    abandoned: Counter,
}

impl ObjectMetrics {
    pub(crate) fn register(registry: &Registry) -> ObjectMetrics {
        let requests = registry.counters(
            "shoal_object_requests_total",
            "Requests sent to object stores, repetitions included, by operation and outcome",
            &["op", "outcome"],
        );
        let durations = registry.histograms(
            "shoal_object_request_duration_seconds",
            "Time from sending a request until its answer's head (get) or end (others)",
            &["op"],
            LATENCY_BUCKETS,
        );
        let bytes = registry.counters(
            "shoal_object_bytes_total",
            "Bytes of object bodies read from and written to object stores",
            &["direction"],
        );
        let outcomes = || std::iter::once("ok").chain(ErrorKind::ALL.iter().map(|kind| kind.as_str()));
        ObjectMetrics {
            requests: Op::ALL
                .iter()
                .map(|op| outcomes().map(|outcome| requests.with(&[op.as_str(), outcome])).collect())
                .collect(),
            durations: Op::ALL.iter().map(|op| durations.with(&[op.as_str()])).collect(),
            read_bytes: bytes.with(&["read"]),
            written_bytes: bytes.with(&["write"]),
            retries: registry.counter(
                "shoal_object_retries_total",
                "Requests to object stores repeated after a transient failure, resumed bodies included",
            ),
            hedges: registry.counter(
                "shoal_object_hedges_total",
                "Further requests to object stores because an answer was late to begin",
            ),
            abandoned: registry.counter(
                "shoal_object_abandoned_total",
                "Bodies of object stores given up because they stopped or were too slow, and gone on with another request",
            ),
        }
    }

    /// One request ended.
    pub(crate) fn request(&self, op: Op, outcome: Result<(), ErrorKind>) {
        let index = match outcome {
            Ok(()) => 0,
            Err(kind) => 1 + ErrorKind::ALL.iter().position(|known| *known == kind).unwrap_or_default(),
        };
        self.requests[op as usize][index].inc();
    }

    pub(crate) fn duration(&self, op: Op, duration: std::time::Duration) {
        self.durations[op as usize].observe_duration(duration);
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.read_bytes.add(bytes);
    }

    pub(crate) fn written(&self, bytes: u64) {
        self.written_bytes.add(bytes);
    }

    pub(crate) fn hedge(&self) {
        self.hedges.inc();
    }

    pub(crate) fn abandoned(&self) {
        self.abandoned.inc();
    }

    pub(crate) fn retry(&self) {
        self.retries.inc();
    }
}
