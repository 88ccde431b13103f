//! `shoal stats`: what a mount does, a line each second. Flags, defaults and columns are JuiceFS's where a mount of ours measures the
//! same.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use shoal_runtime::clock;

use crate::mount_files::{MountFiles, Sample};

/// Lines between two heads.
const LINES_PER_HEAD: u64 = 30;

/// Clock ticks of a second in /proc (proc(5)); the same on every Linux machine of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Letters of sections.
const SECTIONS: &str = "tufco";

/// Flags of `stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A path in a mount
    #[arg(value_name = "MOUNTPOINT")]
    path: PathBuf,
    /// Sections to show: t time, u usage, f FUSE, c block cache, o object store
    #[arg(long, default_value = "ufco", value_name = "LETTERS")]
    schema: String,
    /// Seconds between two lines
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// 1 shows more of each section
    #[arg(long, short = 'l', default_value_t = 0, value_name = "LEVEL")]
    verbosity: u8,
    /// Lines to show before the end, 0 for no end
    #[arg(long, short, default_value_t = 0, value_name = "N")]
    count: u64,
}

/// What a mount has done so far.
struct Moment {
    at: Instant,
    sample: Sample,
    /// Processor time of its process, in seconds.
    cpu: f64,
    /// Memory of its process, in bytes.
    memory: f64,
}

/// How a number is shown.
#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Bytes,
    Count,
    Millis,
    Clock,
}

/// A column: its head, what it shows, and how much of it there was between two moments.
type Column = (&'static str, Unit, fn(&Moment, &Moment, f64) -> f64);

/// A column; here closures become functions.
fn column(head: &'static str, unit: Unit, of: fn(&Moment, &Moment, f64) -> f64) -> Column {
    (head, unit, of)
}

struct Section {
    title: &'static str,
    columns: Vec<Column>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(letter) = args.schema.chars().find(|letter| !SECTIONS.contains(*letter)) {
        anyhow::bail!("--schema {}: a mount does not measure `{letter}`; known are {SECTIONS}", args.schema);
    }
    ensure!(!args.schema.is_empty(), "--schema names no section; known are {SECTIONS}");
    let files = MountFiles::of(&args.path)?;
    let sections: Vec<Section> = args.schema.chars().map(|letter| section(letter, args.verbosity > 0)).collect();
    let mut before = moment(&files)?;
    let mut shown = 0;
    loop {
        clock::sleep(Duration::from_secs(args.interval)).await;
        let now = moment(&files)?;
        if shown % LINES_PER_HEAD == 0 {
            print!("{}", head(&sections));
        }
        println!("{}", line(&sections, &before, &now));
        before = now;
        shown += 1;
        if shown == args.count {
            return Ok(());
        }
    }
}

fn moment(files: &MountFiles) -> anyhow::Result<Moment> {
    let sample = Sample::parse(&files.stats_text()?);
    let (cpu, memory) = process(files.state.pid).unwrap_or_default();
    Ok(Moment { at: clock::now(), sample, cpu, memory })
}

/// Processor time in seconds and memory in bytes of a process; `None` if it is not on this machine.
fn process(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = words.get(11)?.parse::<f64>().ok()? + words.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB");
    Some((ticks / TICKS_PER_SECOND, kib.trim().parse::<f64>().ok()? * 1024.0))
}

/// What a counter gained each second.
fn rate(before: &Moment, now: &Moment, seconds: f64, name: &str, labels: &[&str]) -> f64 {
    (now.sample.sum(name, labels) - before.sample.sum(name, labels)).max(0.0) / seconds
}

/// Mean of what a histogram gained, in milliseconds.
fn mean_ms(before: &Moment, now: &Moment, name: &str, labels: &[&str]) -> f64 {
    let gained = |end: &str| rate(before, now, 1.0, &format!("{name}{end}"), labels);
    let count = gained("_count");
    if count > 0.0 { 1000.0 * gained("_sum") / count } else { 0.0 }
}

const OPS: &str = "shoal_fuse_op_duration_seconds";
const OBJECTS: &str = "shoal_object_request_duration_seconds";

fn section(letter: char, more: bool) -> Section {
    let (title, columns, further): (_, Vec<Column>, Vec<Column>) = match letter {
        't' => ("system", vec![column("time", Unit::Clock, |_, _, _| clock::unix_now().as_secs_f64())], vec![]),
        'u' => (
            "usage",
            vec![
                column("cpu", Unit::Percent, |before, now, s| 100.0 * (now.cpu - before.cpu) / s),
                column("mem", Unit::Bytes, |_, now, _| now.memory),
                column("buf", Unit::Bytes, |_, now, _| now.sample.sum("shoal_vfs_unstored_bytes", &[])),
            ],
            vec![column("files", Unit::Count, |_, now, _| now.sample.sum("shoal_fuse_open_handles", &[]))],
        ),
        'f' => (
            "fuse",
            vec![
                column("ops", Unit::Count, |before, now, s| {
                    rate(before, now, s, &format!("{OPS}_count"), &[])
                        + rate(before, now, s, "shoal_fuse_reads_total", &["path=\"inline\""])
                }),
                column("lat", Unit::Millis, |before, now, _| mean_ms(before, now, OPS, &[])),
                column("read", Unit::Bytes, |before, now, s| rate(before, now, s, "shoal_fuse_read_bytes_total", &[])),
                column("write", Unit::Bytes, |before, now, s| {
                    rate(before, now, s, "shoal_fuse_write_bytes_total", &[])
                }),
            ],
            vec![column("errs", Unit::Count, |before, now, s| rate(before, now, s, "shoal_fuse_errors_total", &[]))],
        ),
        'c' => (
            "blockcache",
            vec![
                column("ram", Unit::Bytes, |before, now, s| rate(before, now, s, READ_BYTES, &["tier=\"ram\""])),
                column("peer", Unit::Bytes, |before, now, s| rate(before, now, s, READ_BYTES, &["tier=\"peer\""])),
            ],
            vec![
                column("orig", Unit::Bytes, |before, now, s| rate(before, now, s, READ_BYTES, &["tier=\"origin\""])),
                column("skips", Unit::Count, |before, now, s| rate(before, now, s, "shoal_cache_skips_total", &[])),
            ],
        ),
        _ => (
            "object",
            vec![
                column("get", Unit::Bytes, |before, now, s| {
                    rate(before, now, s, OBJECT_BYTES, &["direction=\"read\""])
                }),
                column("put", Unit::Bytes, |before, now, s| {
                    rate(before, now, s, OBJECT_BYTES, &["direction=\"write\""])
                }),
            ],
            vec![
                column("get_c", Unit::Count, |before, now, s| {
                    rate(before, now, s, &format!("{OBJECTS}_count"), &["op=\"get\""])
                }),
                column("lat", Unit::Millis, |before, now, _| mean_ms(before, now, OBJECTS, &["op=\"get\""])),
                column("put_c", Unit::Count, |before, now, s| {
                    rate(before, now, s, &format!("{OBJECTS}_count"), &["op=\"put\""])
                }),
                column("lat", Unit::Millis, |before, now, _| mean_ms(before, now, OBJECTS, &["op=\"put\""])),
            ],
        ),
    };
    let columns = columns.into_iter().chain(if more { further } else { Vec::new() }).collect();
    Section { title, columns }
}

const READ_BYTES: &str = "shoal_cache_read_bytes_total";
const OBJECT_BYTES: &str = "shoal_object_bytes_total";

impl Unit {
    fn width(self) -> usize {
        match self {
            Unit::Clock => 19,
            _ => 6,
        }
    }

    fn show(self, value: f64) -> String {
        // The sum of no floats is -0.
        let value = value + 0.0;
        let text = match self {
            Unit::Percent => format!("{value:.1}%"),
            Unit::Bytes => bytes(value),
            Unit::Count => format!("{value:.0}"),
            Unit::Millis if value == 0.0 => "0".to_owned(),
            Unit::Millis => format!("{value:.2}"),
            Unit::Clock => {
                let time = shoal_format::Time { secs: value as i64, nanos: 0 };
                shoal_format::rfc3339(time).trim_end_matches('Z').replace('T', " ")
            }
        };
        format!("{text:>width$}", width = self.width())
    }
}

/// A size in at most five characters: `97M`, `3904K`.
fn bytes(value: f64) -> String {
    let (mut value, mut unit) = (value, "");
    for next in ["K", "M", "G", "T"] {
        if value < 10_000.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.0}{unit}")
}

fn head(sections: &[Section]) -> String {
    let width = |section: &Section| section.columns.iter().map(|(_, unit, _)| unit.width()).sum::<usize>();
    let titles: Vec<String> =
        sections.iter().map(|section| format!("{:-^width$}", section.title, width = width(section))).collect();
    let heads = |section: &Section| -> String {
        section.columns.iter().map(|(name, unit, _)| format!("{name:>width$}", width = unit.width())).collect()
    };
    let heads: Vec<String> = sections.iter().map(heads).collect();
    format!("{}\n{}\n", titles.join(" "), heads.join("|"))
}

fn line(sections: &[Section], before: &Moment, now: &Moment) -> String {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let cells = |section: &Section| -> String {
        section.columns.iter().map(|(_, unit, of)| unit.show(of(before, now, seconds))).collect()
    };
    sections.iter().map(cells).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_there_was_each_second() {
        let start = clock::now();
        let moment = |seconds: u64, page: &str| Moment {
            at: start + Duration::from_secs(seconds),
            sample: Sample::parse(page),
            cpu: seconds as f64 / 4.0,
            memory: 97.0 * f64::from(1 << 20),
        };
        let page = |n: u64| {
            format!(
                "shoal_fuse_op_duration_seconds_count{{op=\"open\"}} {n}\nshoal_fuse_op_duration_seconds_sum{{op=\"open\"}} 0.0{n}\n\
                 shoal_fuse_read_bytes_total {}\n",
                n << 20
            )
        };
        let sections: Vec<Section> = "uf".chars().map(|letter| section(letter, false)).collect();
        let text = line(&sections, &moment(0, &page(2)), &moment(2, &page(8)));
        assert_eq!(text, " 25.0%   97M     0|     3 10.00 3072K     0");
        assert_eq!(
            head(&sections),
            "------usage------- ----------fuse----------\n   cpu   mem   buf|   ops   lat  read write\n"
        );
        assert_eq!((bytes(0.0), bytes(9999.0), bytes(10_240.0)), ("0".into(), "9999".into(), "10K".into()));
    }
}
