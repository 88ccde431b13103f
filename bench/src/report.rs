//! The result for people (a table) and for programs (JSON).

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::sample::{Sample, Summary, median};

/// One thing measured: the machine's limit and, if there is one, what ours makes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Ours.
    pub ours: Option<Summary>,
    /// The same work without Shoal.
    pub limit: Summary,
    /// Median over the rounds of our rate (of bytes; of operations, where none moves) / the limit's in the same round; above 1 ours is
    /// faster.
    pub ratio: Option<f64>,
    /// Our CPU for a byte (an operation, where none moves) / the limit's, each at its best; above 1 ours costs more.
    pub cpu_ratio: Option<f64>,
    /// Median over the rounds of our median latency / the limit's in the same round; above 1 ours is slower.
    pub p50_ratio: Option<f64>,
    /// The same of the 99th percentile.
    pub p99_ratio: Option<f64>,
    /// What the ratios should be.
    pub goals: Goals,
}

/// What the ratios of a row should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goals {
    /// [`Row::ratio`] at least.
    pub rate: Option<f64>,
    /// [`Row::cpu_ratio`] at most.
    pub cpu: Option<f64>,
    /// [`Row::p50_ratio`] at most.
    pub p50: Option<f64>,
    /// [`Row::p99_ratio`] at most.
    pub p99: Option<f64>,
}

/// A ratio and the goal it is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `rate`, `CPU`, `p50` or `p99`.
    pub what: &'static str,
    /// The ratio.
    pub ratio: f64,
    /// `>=` or `<=`: how it should compare to `goal`.
    pub relation: &'static str,
    /// The goal.
    pub goal: f64,
    /// Whether it does.
    pub met: bool,
}

/// Everything one command measured, and on what.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Layout of this file; raised when a field changes its meaning.
    pub version: u32,
    /// The subcommand.
    pub command: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// The measurements, in the order they were taken.
    pub rows: Vec<Row>,
}

/// What bounds the numbers besides the code.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processors this process may use.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// Load average of the last minute at the end of the run; above `cpus` the machine was busy with something else too.
    pub load_1m: String,
}

impl Row {
    /// A row of `limit` samples (at least one) and as many of `ours`, or none; the two are paired by round.
    pub fn new(name: &str, goals: Goals, ours: &[Sample], limit: &[Sample]) -> Row {
        let of_rounds = |value: fn(&Sample) -> f64| {
            let pairs = ours.iter().zip(limit);
            (!ours.is_empty())
                .then(|| median(pairs.map(|(ours, limit)| value(ours) / value(limit).max(1e-9)).collect()))
        };
        let ratio = of_rounds(Sample::rate);
        let (p50_ratio, p99_ratio) = (of_rounds(Sample::p50_us), of_rounds(Sample::p99_us));
        let moves = limit.iter().any(|sample| sample.bytes > 0);
        let limit = Summary::of(limit);
        let ours = (!ours.is_empty()).then(|| Summary::of(ours));
        let cpu = |summary: &Summary| if moves { summary.cpu_s_per_gb } else { summary.cpu_us_per_op };
        let cpu_ratio = ours.as_ref().map(|ours| cpu(ours) / cpu(&limit).max(1e-9));
        Row { name: name.to_owned(), ours, limit, ratio, cpu_ratio, p50_ratio, p99_ratio, goals }
    }

    /// Each ratio that has a goal.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let least = |ratio, goal| verdict("rate", ratio, ">=", goal, |ratio, goal| ratio >= goal);
        let most = |what, ratio, goal| verdict(what, ratio, "<=", goal, |ratio, goal| ratio <= goal);
        let Goals { rate, cpu, p50, p99 } = self.goals;
        let all = [least(self.ratio, rate), most("CPU", self.cpu_ratio, cpu), most("p50", self.p50_ratio, p50)];
        all.into_iter().chain([most("p99", self.p99_ratio, p99)]).flatten().collect()
    }

    /// True if a goal is not met.
    pub fn falls_short(&self) -> bool {
        self.verdicts().iter().any(|verdict| !verdict.met)
    }
}

impl Goals {
    /// A row that is only shown.
    pub const NONE: Goals = Goals { rate: None, cpu: None, p50: None, p99: None };

    /// Our rate / the limit's, at least.
    pub const fn rate(least: f64) -> Goals {
        Goals { rate: Some(least), ..Goals::NONE }
    }

    /// Also our CPU for a byte / the limit's, at most.
    pub const fn and_cpu(self, most: f64) -> Goals {
        Goals { cpu: Some(most), ..self }
    }

    /// Our median latency / the limit's, at most.
    pub const fn p50(most: f64) -> Goals {
        Goals { p50: Some(most), ..Goals::NONE }
    }

    /// Our 99th percentile of latencies / the limit's, at most.
    pub const fn p99(most: f64) -> Goals {
        Goals { p99: Some(most), ..Goals::NONE }
    }
}

fn verdict(
    what: &'static str,
    ratio: Option<f64>,
    relation: &'static str,
    goal: Option<f64>,
    holds: fn(f64, f64) -> bool,
) -> Option<Verdict> {
    let (ratio, goal) = (ratio?, goal?);
    Some(Verdict { what, ratio, relation, goal, met: holds(ratio, goal) })
}

impl Report {
    /// A report of `rows` measured on this machine by subcommand `command`.
    pub fn new(command: &'static str, rows: Vec<Row>) -> Report {
        Report { version: 2, command, machine: Machine::here(), rows }
    }

    /// The table: a line for each limit and, below it, one for ours with the ratios of the two.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
        let mut text = String::new();
        let header = ["MB/s", "best", "ops/s", "p50 us", "p99 us", "CPU-s/GB", "CPU us/op"];
        let _ = write!(text, "{:width$}       ", "what");
        header.iter().for_each(|column| text.push_str(&format!("{column:>11}")));
        text.push_str("   rate x  p50 x  CPU x  goal\n");
        for row in &self.rows {
            line(&mut text, &row.name, width, "limit", &row.limit);
            text.push('\n');
            if let Some(ours) = &row.ours {
                line(&mut text, "", width, "ours", ours);
                let ratios = [row.ratio, row.p50_ratio, row.cpu_ratio].map(|ratio| ratio.unwrap_or(0.0));
                ratios.iter().for_each(|ratio| text.push_str(&format!("{ratio:>8.2}")));
                if row.goals.p99.is_some() {
                    let _ = write!(text, "  p99 x {:.2}", row.p99_ratio.unwrap_or(0.0));
                }
                for Verdict { what, relation, goal, met, .. } in row.verdicts() {
                    let _ = write!(text, "  {what} {relation} {goal:.2} {}", if met { "ok" } else { "SHORT" });
                }
                text.push('\n');
            }
        }
        let Machine { cpus, kernel, load_1m } = &self.machine;
        let _ = writeln!(
            text,
            "\n{cpus} CPUs, kernel {kernel}, load {load_1m}; MB/s and ops/s: median of the rounds; CPU: both ends, best round"
        );
        text
    }

    /// Prints the table and, if there is a `path`, writes the JSON there. Errors: the file cannot be written.
    pub fn publish(&self, path: Option<&Path>) -> anyhow::Result<()> {
        print!("{}", self.table());
        path.map_or(Ok(()), |path| self.write_json(path))
    }

    /// Writes the report as JSON to `path`. Errors: the file cannot be written.
    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot encode the report")? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Machine {
    fn here() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_1m: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

fn line(text: &mut String, name: &str, width: usize, who: &str, summary: &Summary) {
    let Summary { mb_per_s, mb_per_s_best, ops_per_s, cpu_s_per_gb, cpu_us_per_op, p50_us, p99_us, .. } = summary;
    let _ = write!(
        text,
        "{name:width$}  {who:5}{mb_per_s:>11.0}{mb_per_s_best:>11.0}{ops_per_s:>11.0}{p50_us:>11.1}{p99_us:>11.1}\
         {cpu_s_per_gb:>11.4}{cpu_us_per_op:>11.2}"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(bytes: u64, cpu_s: f64) -> Sample {
        Sample { bytes, ops: 10, wall: Duration::from_secs(1), cpu_s, latencies: vec![Duration::from_micros(5)] }
    }

    #[test]
    fn the_ratio_pairs_samples_of_the_same_round() {
        // The machine was ten times slower in the second round; the ratio does not notice.
        let ours = [sample(80, 2.0), sample(8, 0.2), sample(800, 20.0)];
        let limit = [sample(100, 1.0), sample(10, 0.1), sample(1000, 10.0)];
        let row = Row::new("x", Goals::rate(0.85).and_cpu(3.0), &ours, &limit);
        assert_eq!((row.ratio, row.p50_ratio, row.falls_short()), (Some(0.8), Some(1.0), true));
        assert!((row.cpu_ratio.unwrap() - 2.5).abs() < 1e-9);
        let met: Vec<_> = row.verdicts().into_iter().map(|verdict| (verdict.what, verdict.met)).collect();
        assert_eq!(met, [("rate", false), ("CPU", true)]);
    }

    #[test]
    fn table_and_json_hold_every_row() {
        let rows = vec![
            Row::new("both", Goals::rate(0.5), &[sample(8, 1.0)], &[sample(16, 1.0)]),
            Row::new("bare", Goals::NONE, &[], &[sample(5, 1.0)]),
        ];
        let report = Report::new("limits", rows);
        let table = report.table();
        assert!(table.contains("0.50    1.00    2.00  rate >= 0.50 ok"), "{table}");
        assert_eq!(table.lines().filter(|line| line.contains("limit")).count(), 2, "{table}");
        let dir = shoal_testkit::TestDir::new("report");
        report.write_json(&dir.join("report.json")).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(dir.join("report.json")).unwrap()).unwrap();
        assert_eq!(json["version"], 2);
        assert_eq!(json["rows"][0]["ratio"], 0.5);
        assert_eq!(json["rows"][1]["ours"], serde_json::Value::Null);
    }
}
