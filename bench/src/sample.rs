//! What one measurement gives, and how several become one summary.

use std::time::{Duration, Instant};

use serde::Serialize;
use shoal_runtime::clock;

/// Latencies kept of one sample: 1 s of the fastest operation here (300 k/s) three times over. Later ones are counted only.
const LATENCIES_MAX: usize = 1_000_000;

/// How long one sample takes: until `time` has passed or `ops_max` operations are done, whichever comes first; never less than
/// one operation.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Wall time.
    pub time: Duration,
    /// Operations.
    pub ops_max: u64,
}

/// One kind of operation repeated for a while.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Payload bytes moved.
    pub bytes: u64,
    /// Operations done.
    pub ops: u64,
    /// Wall time from the first operation's start to the last one's end.
    pub wall: Duration,
    /// CPU seconds, user and kernel, of the whole process meanwhile: both ends, since both run in it.
    pub cpu_s: f64,
    /// Of each operation, in order of completion; at most a million.
    pub latencies: Vec<Duration>,
}

/// Measures one sample while it is taken.
#[derive(Debug)]
pub struct Meter {
    effort: Effort,
    start: Instant,
    cpu_start_s: f64,
    last: Instant,
    bytes: u64,
    ops: u64,
    latencies: Vec<Duration>,
}

/// Several samples of one thing. GB = 10^9 bytes, MB = 10^6 bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Median over the samples.
    pub mb_per_s: f64,
    /// Best sample.
    pub mb_per_s_best: f64,
    /// Median over the samples.
    pub ops_per_s: f64,
    /// Smallest over the samples: what the work costs when nothing disturbs it.
    pub cpu_s_per_gb: f64,
    /// Smallest over the samples.
    pub cpu_us_per_op: f64,
    /// Median latency over all samples' operations.
    pub p50_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
    /// Samples taken.
    pub samples: usize,
}

impl Effort {
    /// As many operations as fit in `time`.
    pub fn lasting(time: Duration) -> Effort {
        Effort { time, ops_max: u64::MAX }
    }

    /// Exactly `count` operations, or one if `count` is zero; for tests and warm-ups.
    pub fn ops(count: u64) -> Effort {
        Effort { time: Duration::MAX, ops_max: count }
    }
}

impl Meter {
    /// Starts the clocks.
    pub fn start(effort: &Effort) -> Meter {
        let start = clock::now();
        Meter {
            effort: *effort,
            start,
            cpu_start_s: process_cpu_s(),
            last: start,
            bytes: 0,
            ops: 0,
            latencies: Vec::new(),
        }
    }

    /// Whether another operation should start when `in_flight` of them have not ended yet.
    pub fn goes_on(&self, in_flight: u64) -> bool {
        let begun = self.ops + in_flight;
        begun == 0 || (begun < self.effort.ops_max && self.last.duration_since(self.start) < self.effort.time)
    }

    /// Notes that the operation begun at `began` has moved `bytes` and ended now.
    pub fn done(&mut self, began: Instant, bytes: u64) {
        self.last = clock::now();
        self.bytes += bytes;
        self.ops += 1;
        if self.latencies.len() < LATENCIES_MAX {
            self.latencies.push(self.last.duration_since(began));
        }
    }

    /// The sample.
    pub fn finish(self) -> Sample {
        Sample {
            bytes: self.bytes,
            ops: self.ops,
            wall: self.last.duration_since(self.start),
            cpu_s: process_cpu_s() - self.cpu_start_s,
            latencies: self.latencies,
        }
    }
}

impl Sample {
    /// 10^6 bytes a second.
    pub fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall_s()
    }

    /// Operations a second.
    pub fn ops_per_s(&self) -> f64 {
        self.ops as f64 / self.wall_s()
    }

    /// CPU seconds for 10^9 bytes; zero if none moved.
    pub fn cpu_s_per_gb(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.cpu_s / (self.bytes as f64 / 1e9) }
    }

    /// What rates are compared by: bytes, or operations where they move none.
    pub fn rate(&self) -> f64 {
        if self.bytes > 0 { self.mb_per_s() } else { self.ops_per_s() }
    }

    /// CPU microseconds for one operation.
    pub fn cpu_us_per_op(&self) -> f64 {
        self.cpu_s * 1e6 / self.ops.max(1) as f64
    }

    /// Median latency in microseconds.
    pub fn p50_us(&self) -> f64 {
        self.percentile_us(50)
    }

    /// 99th percentile of the latencies in microseconds.
    pub fn p99_us(&self) -> f64 {
        self.percentile_us(99)
    }

    fn percentile_us(&self, percent: usize) -> f64 {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        percentile_us(&latencies, percent)
    }

    fn wall_s(&self) -> f64 {
        self.wall.as_secs_f64().max(1e-9)
    }
}

impl Summary {
    /// The summary of `samples`, which must not be empty.
    pub fn of(samples: &[Sample]) -> Summary {
        assert!(!samples.is_empty(), "a summary of nothing");
        let each = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<f64>>();
        let mut latencies: Vec<Duration> = samples.iter().flat_map(|sample| sample.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        Summary {
            mb_per_s: median(each(Sample::mb_per_s)),
            mb_per_s_best: each(Sample::mb_per_s).into_iter().fold(0.0, f64::max),
            ops_per_s: median(each(Sample::ops_per_s)),
            cpu_s_per_gb: each(Sample::cpu_s_per_gb).into_iter().fold(f64::INFINITY, f64::min),
            cpu_us_per_op: each(Sample::cpu_us_per_op).into_iter().fold(f64::INFINITY, f64::min),
            p50_us: percentile_us(&latencies, 50),
            p99_us: percentile_us(&latencies, 99),
            samples: samples.len(),
        }
    }
}

/// The middle of `values`, the mean of the two middle ones if their number is even; `values` must not be empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

fn percentile_us(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
}

fn process_cpu_s() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(bytes: u64, wall_ms: u64, cpu_s: f64) -> Sample {
        let latencies = (1..=100).map(Duration::from_micros).collect();
        Sample { bytes, ops: 100, wall: Duration::from_millis(wall_ms), cpu_s, latencies }
    }

    #[test]
    fn a_summary_takes_median_rates_the_least_cpu_and_all_latencies() {
        let summary = Summary::of(&[
            sample(1_000_000_000, 1000, 0.5),
            sample(2_000_000_000, 1000, 0.6),
            sample(4_000_000_000, 1000, 4.0),
        ]);
        assert_eq!((summary.mb_per_s, summary.mb_per_s_best), (2000.0, 4000.0));
        assert_eq!((summary.ops_per_s, summary.samples), (100.0, 3));
        assert_eq!(summary.cpu_s_per_gb, 0.3);
        assert_eq!((summary.p50_us, summary.p99_us), (51.0, 100.0));
    }

    #[test]
    fn an_effort_of_some_operations_ends_after_them() {
        let mut meter = Meter::start(&Effort::ops(3));
        let mut begun = 0;
        while meter.goes_on(0) {
            begun += 1;
            meter.done(clock::now(), 10);
        }
        let sample = meter.finish();
        assert_eq!((begun, sample.ops, sample.bytes, sample.latencies.len()), (3, 3, 30, 3));
        assert!(!Meter::start(&Effort::ops(3)).goes_on(3));
        assert!(Meter::start(&Effort::lasting(Duration::ZERO)).goes_on(0));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
    }
}
