//! `shoal profile`: which requests a mount answers and how long they take, from its access log or a copy of one. Flags, defaults and
//! output are JuiceFS's, and so is the shape of the log: either client's tool reads the other's.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;
use shoal_format::{Time, rfc3339};
use shoal_runtime::{clock, task};

use crate::mount_files::MountFiles;

/// Lines read and not counted yet.
const LINES_MAX: usize = 10_000;

/// Flags of `profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A path in a mount, or a file with a copy of an access log
    #[arg(value_name = "MOUNTPOINT|LOGFILE")]
    path: PathBuf,
    /// Count requests of these users only
    #[arg(long, short, value_name = "UID,...", value_delimiter = ',')]
    uid: Vec<u32>,
    /// Count requests of these groups only
    #[arg(long, short, value_name = "GID,...", value_delimiter = ',')]
    gid: Vec<u32>,
    /// Count requests of these processes only
    #[arg(long, short, value_name = "PID,...", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Seconds between two tables; 0 for one at the end of a file
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    interval: u64,
}

/// One line of an access log.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    /// When it was answered, in seconds of its day.
    at: f64,
    who: [u32; 3],
    op: &'a str,
    micros: f64,
}

impl Line<'_> {
    /// Reads `2026.11.27 14:50:08.811603 [uid:0,gid:0,pid:233] getattr (1): ... - OK <0.000319>`; `None` for anything else.
    fn parse(text: &str) -> Option<Line<'_>> {
        let (head, rest) = text.split_once(" [uid:")?;
        let mut clock = head.split_once(' ')?.1.split(':');
        let mut part = || clock.next()?.parse::<f64>().ok();
        let at = part()? * 3600.0 + part()? * 60.0 + part()?;
        let (who, rest) = rest.split_once("] ")?;
        let mut numbers = who.split([',', ':']).filter_map(|word| word.parse().ok());
        let who = [numbers.next()?, numbers.next()?, numbers.next()?];
        let op = rest.split([' ', ':', '(']).next().filter(|op| !op.is_empty())?;
        let seconds: f64 = rest.trim_end().strip_suffix('>')?.rsplit_once('<')?.1.parse().ok()?;
        Some(Line { at, who, op, micros: seconds * 1e6 })
    }
}

/// Requests by kind.
#[derive(Debug, Default)]
struct Counts {
    ops: HashMap<String, (u64, f64)>,
    /// When the first and the last were answered.
    span: Option<(f64, f64)>,
}

impl Counts {
    fn add(&mut self, args: &Args, text: &str) {
        let Some(line) = Line::parse(text) else { return };
        let wanted = [&args.uid, &args.gid, &args.pid];
        if wanted.iter().zip(line.who).any(|(wanted, is)| !wanted.is_empty() && !wanted.contains(&is)) {
            return;
        }
        let (count, micros) = self.ops.entry(line.op.to_owned()).or_default();
        *count += 1;
        *micros += line.micros;
        let first = self.span.map_or(line.at, |(first, _)| first);
        self.span = Some((first, line.at));
    }

    /// A table of what took longest, over `seconds` of time.
    fn table(&self, seconds: f64) -> String {
        let mut rows: Vec<(&String, &(u64, f64))> = self.ops.iter().collect();
        rows.sort_by(|(a, (_, x)), (b, (_, y))| y.total_cmp(x).then(a.cmp(b)));
        let mut text = format!(
            "{:<15} {:>12} {:>15} {:>18} {:>14}\n",
            "Operation", "Count", "Average(us)", "Total(us)", "Percent(%)"
        );
        for (op, (count, micros)) in rows {
            let (mean, percent) = (micros / *count as f64, micros / (seconds * 1e4));
            text += &format!("{op:<15} {count:>12} {mean:>15.0} {micros:>18.0} {percent:>14.1}\n");
        }
        text
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.path.is_file() && MountFiles::of(&args.path).is_err() {
        return replay(&args);
    }
    let log = MountFiles::of(&args.path)?.access_log();
    let interval = Duration::from_secs(args.interval.max(1));
    let lines = follow(&log)?;
    loop {
        let (start, mut counts) = (clock::now(), Counts::default());
        loop {
            match lines.recv_timeout(interval.saturating_sub(start.elapsed())) {
                Ok(line) => counts.add(&args, &line),
                Err(RecvTimeoutError::Timeout) => break,
                // The mount is gone.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        let now = rfc3339(Time { secs: clock::unix_now().as_secs() as i64, nanos: 0 });
        println!("> Shoal profiling    refresh: {} seconds    {now}", interval.as_secs());
        println!("{}", counts.table(start.elapsed().as_secs_f64()));
    }
}

/// Lines of a mount's access log as they come; a thread reads them, because reading waits.
fn follow(log: &Path) -> anyhow::Result<mpsc::Receiver<String>> {
    let file = File::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    let (sender, lines) = mpsc::sync_channel(LINES_MAX);
    drop(task::thread("access-log", move || {
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    }));
    Ok(lines)
}

fn replay(args: &Args) -> anyhow::Result<()> {
    let file = File::open(&args.path).with_context(|| format!("cannot read {}", args.path.display()))?;
    let mut counts = Counts::default();
    for line in BufReader::new(file).lines() {
        counts.add(args, &line?);
    }
    let seconds = counts.span.map_or(0.0, |(first, last)| last - first).max(1e-6);
    print!("{}", counts.table(seconds));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_clients_are_read() {
        let theirs = "2026.11.27 14:50:08.811603 [uid:7,gid:8,pid:23355] getattr (1): (1,[drwxrwxrwx:0040777,4]) - OK <0.000319>";
        let line = Line::parse(theirs).expect("a line");
        assert_eq!((line.who, line.op), ([7, 8, 23355], "getattr"));
        assert!((line.micros - 319.0).abs() < 0.01 && (line.at - 53_408.811603).abs() < 1e-6);
        let ours = "2026.11.27 00:00:01.000000 [uid:0,gid:0,pid:0] read (5) - OK <1.500000>";
        assert_eq!(Line::parse(ours).map(|line| (line.op, line.micros as u64)), Some(("read", 1_500_000)));
        for other in ["#", "", "2026.11.27", "# 5 lines were dropped", "2026.11.27 1:2:3 [uid:0,gid:0,pid:0] read - OK"]
        {
            assert_eq!(Line::parse(other), None, "{other}");
        }
    }
}
