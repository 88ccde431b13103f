//! `shoal-bench juicefs`: a mount of ours against one of JuiceFS's, side by side on this machine.
//!
//! Each has a volume of its own with the same settings, made by JuiceFS, on the same metadata engine; both use their defaults. The limit of
//! every row is JuiceFS. CPU is that of the mount process alone: the programs and the engine cost both the same.

mod client;
mod files;
mod names;

use std::path::PathBuf;

use anyhow::Context;
use shoal_testkit::TestDir;
use shoal_types::ByteSize;

use crate::race::{Case, race};
use crate::report::{Goals, Report};
use crate::sample::{Effort, Sample};

use client::{Client, Program};
use files::{Small, Stream};
use names::Names;

/// Our rate of operations on names / JuiceFS's, at least.
const NAMES_GOAL: f64 = 2.0;
/// Our rate of bytes / JuiceFS's, at least.
const BYTES_GOAL: f64 = 1.2;
/// Our CPU / JuiceFS's, at most.
const CPU_GOAL: f64 = 1.0;

/// Measure a mount against one of JuiceFS.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The JuiceFS client.
    #[arg(long, default_value = ".venv/bin/juicefs")]
    juicefs: PathBuf,
    /// Our client; left out, the `shoal` beside this program.
    #[arg(long)]
    shoal: Option<PathBuf>,
    /// Metadata of JuiceFS's volume; left out, a SQLite file.
    #[arg(long, requires = "shoal_meta")]
    juicefs_meta: Option<String>,
    /// Metadata of our volume, of the same kind.
    #[arg(long, requires = "juicefs_meta")]
    shoal_meta: Option<String>,
    /// Directory on the disk that holds the objects; made there and removed.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Files of each thread in the rows of names.
    #[arg(long, default_value_t = 500)]
    names: usize,
    /// Files of 128 KiB.
    #[arg(long, default_value_t = 2000)]
    files: usize,
    /// Bytes of the one large file.
    #[arg(long, default_value = "2GiB")]
    size: ByteSize,
    /// Rounds; each takes one sample of both, right after one another.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only groups of rows whose name contains this: `names 1`, `names 8`, `files`, `stream`.
    #[arg(long)]
    only: Option<String>,
    /// Also write the result to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dir = TestDir::inside(&args.dir, "rival");
    let ours = match &args.shoal {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("shoal"),
    };
    let url = |given: &Option<String>, name: &str| {
        given.clone().unwrap_or_else(|| format!("sqlite3://{}", dir.join(format!("{name}.db")).display()))
    };
    let start = |program, name: &str, meta: String| {
        Client::start(program, &args.juicefs, &dir, &meta).with_context(|| format!("cannot mount with {name}"))
    };
    let theirs = start(Program::JuiceFs, "JuiceFS", url(&args.juicefs_meta, "juicefs"))?;
    let ours = start(Program::Shoal(ours), "Shoal", url(&args.shoal_meta, "shoal"))?;
    let mut cases: Vec<Case<'_>> = Vec::new();
    for threads in [1, 8] {
        cases.extend(names_cases(args, &theirs, &ours, threads));
    }
    cases.extend(files_cases(args, &theirs, &ours));
    let rows = race(&mut cases, args.rounds, &Effort::ops(1))?;
    Report::new("juicefs", rows).publish(args.json.as_deref())
}

/// Whether the group `name` is asked for.
fn asked(args: &Args, name: &str) -> bool {
    args.only.as_deref().is_none_or(|only| name.contains(only))
}

fn names_cases<'a>(args: &Args, theirs: &'a Client, ours: &'a Client, threads: usize) -> Vec<Case<'a>> {
    if !asked(args, &format!("names {threads}")) {
        return Vec::new();
    }
    let names = Names { threads, each: args.names };
    let goals = Goals::rate(NAMES_GOAL).and_cpu(CPU_GOAL);
    let step = |name: &str, step: fn(&Names, &Client) -> anyhow::Result<Sample>| {
        pair(format!("{name}, {threads} threads"), goals, theirs, ours, move |client| step(&names, client))
    };
    vec![
        step("mkdir", Names::mkdir),
        step("create", Names::create),
        step("stat", Names::stat),
        step("readdir", Names::readdir),
        step("readdir and stat", Names::list),
        step("rename", Names::rename),
        step("unlink", Names::unlink),
        step("rmdir", Names::rmdir),
    ]
}

fn files_cases<'a>(args: &Args, theirs: &'a Client, ours: &'a Client) -> Vec<Case<'a>> {
    let goals = Goals::rate(BYTES_GOAL).and_cpu(CPU_GOAL);
    let (small, stream) = (Small { files: args.files }, Stream { bytes: args.size.0 });
    let mut cases = Vec::new();
    if asked(args, "files") {
        cases.push(pair("write files of 128 KiB", goals, theirs, ours, move |client| small.write(client)));
        cases.push(pair("read files of 128 KiB", goals, theirs, ours, move |client| small.read(client)));
    }
    if asked(args, "stream") {
        cases.push(pair("write one file, 1 MiB at a time", goals, theirs, ours, move |client| stream.write(client)));
        cases.push(pair("read one file, 1 MiB at a time", goals, theirs, ours, move |client| stream.read(client)));
    }
    cases
}

fn pair<'a>(
    name: impl Into<String>,
    goals: Goals,
    theirs: &'a Client,
    ours: &'a Client,
    work: impl Fn(&Client) -> anyhow::Result<Sample> + Copy + 'a,
) -> Case<'a> {
    Case::limit(name, move |_: &Effort| work(theirs)).ours(goals, move |_: &Effort| work(ours))
}
