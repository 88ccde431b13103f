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
    /// Median over the rounds of our rate / the limit's rate in the same round; above 1 ours is faster.
    pub ratio: Option<f64>,
    /// Our CPU for a byte / the limit's, each at its best; above 1 ours costs more.
    pub cpu_ratio: Option<f64>,
    /// The ratio wanted.
    pub goal: Option<f64>,
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
    pub fn new(name: &str, goal: Option<f64>, ours: &[Sample], limit: &[Sample]) -> Row {
        let pairs = || ours.iter().zip(limit);
        let ratio = (!ours.is_empty())
            .then(|| median(pairs().map(|(ours, limit)| ours.mb_per_s() / limit.mb_per_s().max(1e-9)).collect()));
        let limit = Summary::of(limit);
        let ours = (!ours.is_empty()).then(|| Summary::of(ours));
        let cpu_ratio = ours.as_ref().map(|ours| ours.cpu_s_per_gb / limit.cpu_s_per_gb.max(1e-9));
        Row { name: name.to_owned(), ours, limit, ratio, cpu_ratio, goal }
    }

    /// Whether the ratio reaches the goal; None without either.
    pub fn meets_goal(&self) -> Option<bool> {
        Some(self.ratio? >= self.goal?)
    }
}

impl Report {
    /// A report of `rows` measured on this machine by subcommand `command`.
    pub fn new(command: &'static str, rows: Vec<Row>) -> Report {
        Report { version: 1, command, machine: Machine::here(), rows }
    }

    /// The table: a line for each limit and, below it, one for ours.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
        let mut text = String::new();
        let header = ["MB/s", "best", "ops/s", "p50 us", "p99 us", "CPU-s/GB", "CPU us/op"];
        let _ = write!(text, "{:width$}       ", "what");
        header.iter().for_each(|column| text.push_str(&format!("{column:>11}")));
        text.push_str("      ratio (goal)\n");
        for row in &self.rows {
            line(&mut text, &row.name, width, "limit", &row.limit);
            text.push('\n');
            if let Some(ours) = &row.ours {
                line(&mut text, "", width, "ours", ours);
                let _ = write!(text, "{:>11.2}", row.ratio.unwrap_or(0.0));
                if let Some(goal) = row.goal {
                    let verdict = if row.meets_goal() == Some(true) { "ok" } else { "MISSED" };
                    let _ = write!(text, " ({goal:.2} {verdict})");
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
        let row = Row::new("x", Some(0.85), &ours, &limit);
        assert_eq!((row.ratio, row.meets_goal()), (Some(0.8), Some(false)));
        assert!((row.cpu_ratio.unwrap() - 2.5).abs() < 1e-9);
    }

    #[test]
    fn table_and_json_hold_every_row() {
        let rows = vec![
            Row::new("both", Some(0.5), &[sample(8, 1.0)], &[sample(16, 1.0)]),
            Row::new("bare", None, &[], &[sample(5, 1.0)]),
        ];
        let report = Report::new("limits", rows);
        let table = report.table();
        assert!(table.contains("0.50 (0.50 ok)"), "{table}");
        assert_eq!(table.lines().filter(|line| line.contains("limit")).count(), 2, "{table}");
        let dir = shoal_testkit::TestDir::new("report");
        report.write_json(&dir.join("report.json")).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(dir.join("report.json")).unwrap()).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["rows"][0]["ratio"], 0.5);
        assert_eq!(json["rows"][1]["ours"], serde_json::Value::Null);
    }
}
