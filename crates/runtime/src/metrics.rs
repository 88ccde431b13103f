//! Counters, gauges and histograms, and the text that Prometheus scrapes.
//!
//! Thin newtypes over the `prometheus` crate, whose types stay in here. There is no process-global registry: every crate has a
//! `metrics.rs` with `XMetrics::register(&Registry)`, and several nodes in one test process have one registry each.
//! Text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;

/// Upper bounds of latency buckets in seconds: 50 us to 30 s, three a decade (a RAM hit to a slow object store).
pub const LATENCY_BUCKETS: &[f64] = &[
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1.0, 2.0, 5.0, 10.0,
    30.0,
];

/// The metrics of one node or one client; clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    inner: prometheus::Registry,
    known: Mutex<HashMap<String, Known>>,
    hooks: Mutex<Vec<Hook>>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// What a name was first registered as.
struct Known {
    labels: Vec<String>,
    metric: Metric,
}

#[derive(Clone)]
enum Metric {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("metrics", &self.shared.known.lock().len()).finish_non_exhaustive()
    }
}

/// Counts up. Hold it; do not look it up on the hot path.
#[derive(Debug, Clone)]
pub struct Counter(prometheus::IntCounter);

/// One counter for each combination of label values.
#[derive(Debug, Clone)]
pub struct CounterVec(prometheus::IntCounterVec);

/// A value that goes up and down.
#[derive(Debug, Clone)]
pub struct Gauge(prometheus::IntGauge);

/// One gauge for each combination of label values.
#[derive(Debug, Clone)]
pub struct GaugeVec(prometheus::IntGaugeVec);

/// How observed values are distributed.
#[derive(Debug, Clone)]
pub struct Histogram(prometheus::Histogram);

/// One histogram for each combination of label values.
#[derive(Debug, Clone)]
pub struct HistogramVec(prometheus::HistogramVec);

/// Registration. A name that is already known gives the metric made first, so two users of one registry share it.
///
/// Panics, because it is a mistake in the program and shows at start: a name or label Prometheus does not allow, and a name
/// registered before as another type or with other labels.
impl Registry {
    /// A registry with no metrics.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// A counter without labels; by convention `name` ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.counters(name, help, &[]).with(&[])
    }

    /// A counter for each combination of values of `labels`.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let make = || prometheus::IntCounterVec::new(prometheus::Opts::new(name, help), labels);
        match self.register(name, labels, || make().map(|vec| (Metric::Counter(CounterVec(vec.clone())), boxed(vec)))) {
            Metric::Counter(counters) => counters,
            other => panic!("metric {name} is a {} already, not a counter", other.kind()),
        }
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.gauges(name, help, &[]).with(&[])
    }

    /// A gauge for each combination of values of `labels`.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let make = || prometheus::IntGaugeVec::new(prometheus::Opts::new(name, help), labels);
        match self.register(name, labels, || make().map(|vec| (Metric::Gauge(GaugeVec(vec.clone())), boxed(vec)))) {
            Metric::Gauge(gauges) => gauges,
            other => panic!("metric {name} is a {} already, not a gauge", other.kind()),
        }
    }

    /// A histogram without labels; `buckets` are ascending upper bounds in the unit the name says.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.histograms(name, help, &[], buckets).with(&[])
    }

    /// A histogram for each combination of values of `labels`; a second registration keeps the first one's buckets.
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = || prometheus::HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let make = || prometheus::HistogramVec::new(opts(), labels);
        match self
            .register(name, labels, || make().map(|vec| (Metric::Histogram(HistogramVec(vec.clone())), boxed(vec))))
        {
            Metric::Histogram(histograms) => histograms,
            other => panic!("metric {name} is a {} already, not a histogram", other.kind()),
        }
    }

    /// Calls `hook` before each scrape, for gauges that are cheaper to compute then than to keep current. Must not block.
    pub fn on_scrape(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.shared.hooks.lock().push(Arc::new(hook));
    }

    /// Every metric in the Prometheus text format, sorted by name.
    pub fn gather_text(&self) -> String {
        // The hooks run without the lock: one of them may register a metric or another hook.
        let hooks: Vec<Hook> = self.shared.hooks.lock().clone();
        hooks.iter().for_each(|hook| hook());
        let mut text = String::new();
        prometheus::TextEncoder::new()
            .encode_utf8(&self.shared.inner.gather(), &mut text)
            .expect("writing metrics to a string cannot fail");
        text
    }

    fn register(
        &self,
        name: &str,
        labels: &[&str],
        make: impl FnOnce() -> prometheus::Result<(Metric, Box<dyn Collector>)>,
    ) -> Metric {
        let mut known = self.shared.known.lock();
        if let Some(found) = known.get(name) {
            assert!(found.labels == labels, "metric {name} has labels {:?} already, not {labels:?}", found.labels);
            return found.metric.clone();
        }
        let (metric, collector) = make().unwrap_or_else(|error| panic!("metric {name} is malformed: {error}"));
        self.shared.inner.register(collector).unwrap_or_else(|error| panic!("metric {name} is malformed: {error}"));
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        known.insert(name.to_owned(), Known { labels, metric: metric.clone() });
        metric
    }
}

impl Metric {
    fn kind(&self) -> &'static str {
        match self {
            Metric::Counter(_) => "counter",
            Metric::Gauge(_) => "gauge",
            Metric::Histogram(_) => "histogram",
        }
    }
}

fn boxed(collector: impl Collector + 'static) -> Box<dyn Collector> {
    Box::new(collector)
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.inc_by(n);
    }

    /// What was counted so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    /// Sets the value, saturating at `i64::MAX`; for sizes in bytes.
    pub fn set_u64(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.add(n);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

impl Histogram {
    /// Records one value in the unit of the buckets.
    pub fn observe(&self, value: f64) {
        self.0.observe(value);
    }

    /// Records one duration, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.0.get_sample_count()
    }

    /// The sum of the recorded values.
    pub fn sum(&self) -> f64 {
        self.0.get_sample_sum()
    }
}

/// `with` gives the metric of one combination, made at its first use and exported from then on. `values` are in the order of the
/// labels; panics if their number differs. Values come from enums: never a path, a key or an inode.
impl CounterVec {
    /// The counter of these label values.
    pub fn with(&self, values: &[&str]) -> Counter {
        Counter(self.0.with_label_values(values))
    }
}

impl GaugeVec {
    /// The gauge of these label values.
    pub fn with(&self, values: &[&str]) -> Gauge {
        Gauge(self.0.with_label_values(values))
    }

    /// Stops exporting the gauge of these label values, if there is one; for a device or peer that went away.
    pub fn remove(&self, values: &[&str]) {
        let _ = self.0.remove_label_values(values);
    }
}

impl HistogramVec {
    /// The histogram of these label values.
    pub fn with(&self, values: &[&str]) -> Histogram {
        Histogram(self.0.with_label_values(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registering_a_name_again_gives_the_same_metric() {
        let registry = Registry::new();
        registry.counter("shoal_test_reads_total", "Reads.").add(2);
        registry.clone().counter("shoal_test_reads_total", "Reads, said otherwise.").inc();
        assert_eq!(registry.counter("shoal_test_reads_total", "").get(), 3);
        registry.gauge("shoal_test_used_bytes", "Used.").set_u64(u64::MAX);
        assert_eq!(registry.gauge("shoal_test_used_bytes", "Used.").get(), i64::MAX);
        registry.histogram("shoal_test_wait_seconds", "Wait.", LATENCY_BUCKETS).observe(0.5);
        let again = registry.histogram("shoal_test_wait_seconds", "Wait.", &[1.0]);
        again.observe_duration(Duration::from_millis(250));
        assert_eq!((again.count(), again.sum()), (2, 0.75));
    }

    #[test]
    fn two_registries_do_not_share() {
        let (one, two) = (Registry::new(), Registry::new());
        one.counter("shoal_test_total", "Test.").inc();
        assert_eq!(two.counter("shoal_test_total", "Test.").get(), 0);
    }

    #[test]
    #[should_panic(expected = "is a counter already, not a gauge")]
    fn a_name_cannot_change_its_type() {
        let registry = Registry::new();
        registry.counter("shoal_test_total", "Test.");
        registry.gauge("shoal_test_total", "Test.");
    }

    #[test]
    #[should_panic(expected = "has labels [\"tier\"] already, not [\"class\"]")]
    fn a_name_cannot_change_its_labels() {
        let registry = Registry::new();
        registry.counters("shoal_test_total", "Test.", &["tier"]);
        registry.counters("shoal_test_total", "Test.", &["class"]);
    }

    #[test]
    fn the_text_has_labels_buckets_and_what_scrape_hooks_set() {
        let registry = Registry::new();
        let reads = registry.counters("shoal_test_reads_total", "Reads.", &["tier"]);
        reads.with(&["ram"]).add(5);
        let used = registry.gauge("shoal_test_used_bytes", "Bytes used.");
        registry.on_scrape(move || used.set(42));
        let lag = registry.gauges("shoal_test_lag", "Lag.", &["peer"]);
        lag.with(&["gone"]).set(1);
        lag.remove(&["gone"]);
        registry.histogram("shoal_test_wait_seconds", "Wait.", &[0.1, 1.0]).observe(0.5);
        let text = registry.gather_text();
        for line in [
            "# HELP shoal_test_reads_total Reads.",
            "# TYPE shoal_test_reads_total counter",
            "shoal_test_reads_total{tier=\"ram\"} 5",
            "shoal_test_used_bytes 42",
            "shoal_test_wait_seconds_bucket{le=\"0.1\"} 0",
            "shoal_test_wait_seconds_bucket{le=\"1\"} 1",
            "shoal_test_wait_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no line `{line}` in:\n{text}");
        }
        assert!(!text.contains("gone"));
    }

    #[test]
    fn latency_buckets_ascend() {
        assert!(LATENCY_BUCKETS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
