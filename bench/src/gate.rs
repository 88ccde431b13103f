//! `shoal-bench gate`: every ratio that has a goal, one a line; fails if one falls short.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::options::{RaceArgs, Rows};
use crate::report::{Report, Row, Verdict};
use crate::{classes, mount, peer, store};

/// Check the ratios that have a goal; exit with 1 if one falls short.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to check.
    #[arg(value_enum, default_values_t = [Part::Store, Part::Peer, Part::Mount])]
    parts: Vec<Part>,
    #[command(flatten)]
    race: RaceArgs,
}

/// A subcommand whose rows have goals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The local tiers.
    Store,
    /// Blocks from another node.
    Peer,
    /// A mounted volume.
    Mount,
    /// Reads beside a warm-up.
    Classes,
}

/// Measures, prints a line for each goal and writes the JSON; gives failure when a goal is not met.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<Row> = Vec::new();
    for part in &args.parts {
        let measured = match part {
            Part::Store => store::rows(&args.race, Rows::WithGoal),
            Part::Peer => peer::rows(&args.race, Rows::WithGoal),
            Part::Mount => mount::rows(&args.race, Rows::WithGoal),
            Part::Classes => classes::rows(&args.race, Rows::WithGoal),
        }?;
        measured.iter().for_each(|row| print!("{}", lines(row)));
        rows.extend(measured);
    }
    let short = rows.iter().filter(|row| row.falls_short()).count();
    let report = Report::new("gate", rows);
    println!("{short} of {} rows fall short of a goal; load {}", report.rows.len(), report.machine.load_1m);
    args.race.json().map_or(Ok(()), |path| report.write_json(path))?;
    Ok(if short == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `name ratio goal` for each goal of a row.
fn lines(row: &Row) -> String {
    let line = |Verdict { what, ratio, relation, goal, met }: Verdict| {
        let word = if met { "ok" } else { "SHORT" };
        format!("{:<50} {what:<4} {ratio:>6.2} {relation} {goal:.2} {word}\n", row.name)
    };
    row.verdicts().into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Goals;
    use crate::sample::Sample;

    #[test]
    fn each_goal_has_a_line_with_its_ratio() {
        let sample = |bytes, cpu_s| Sample {
            bytes,
            ops: 1,
            wall: Duration::from_secs(1),
            cpu_s,
            latencies: vec![Duration::from_micros(5)],
        };
        let row = Row::new("GET", Goals::rate(0.9).and_cpu(1.15), &[sample(80, 0.8)], &[sample(100, 1.0)]);
        let words: Vec<Vec<String>> =
            lines(&row).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        assert_eq!(words[0], ["GET", "rate", "0.80", ">=", "0.90", "SHORT"]);
        assert_eq!(words[1], ["GET", "CPU", "1.00", "<=", "1.15", "ok"]);
    }
}
