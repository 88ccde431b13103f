//! The subcommand: which limits are measured, and how.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use shoal_types::ByteSize;

use super::fuse::{FILE_BYTES, NullFuse};
use super::memory;
use super::pki::Pki;
use super::quic::{Mtu, Quic};
use super::settings;
use super::tls::Tls;
use super::uring::UringFile;
use super::{BLOCK, CHUNK, MIB, PAGE};
use crate::placement::{Place, Placement};
use crate::race::{Case, race};
use crate::report::{Report, Row};
use crate::sample::Effort;

/// Measure what memory, disk, network and FUSE of this machine give without Shoal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory on the disk to measure; a test file is made there and removed.
    #[arg(long, default_value = "/var/tmp")]
    pub dir: PathBuf,
    /// Size of the test file. Larger than the disk's own cache tells the truth about the disk.
    #[arg(long, default_value = "1GiB")]
    pub file_size: ByteSize,
    /// Rounds; each takes one sample of everything.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Milliseconds one sample takes.
    #[arg(long, default_value_t = 500)]
    pub time_ms: u64,
    /// Measure only these.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Memory, Part::Uring, Part::Quic, Part::Tls, Part::Fuse])]
    pub only: Vec<Part>,
    /// Also write the result to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// A group of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Copying in memory.
    Memory,
    /// Raw io_uring on the disk.
    Uring,
    /// Bare QUIC over loopback.
    Quic,
    /// What each QUIC setting Shoal keeps is worth.
    QuicSettings,
    /// TLS over TCP on loopback.
    Tls,
    /// A FUSE file system that answers from memory.
    Fuse,
}

/// Measures, prints the table and writes the JSON. A part this machine cannot run is named on standard error and left out.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for part in &args.only {
        match measure(*part, args) {
            Ok(measured) => rows.extend(measured),
            Err(error) => eprintln!("left out: {part:?}: {error:#}"),
        }
    }
    anyhow::ensure!(!rows.is_empty(), "nothing could be measured");
    Report::new("limits", rows).publish(args.json.as_deref())
}

/// Parts run one after the other, cases of a part in turns: comparing a disk with a network needs no common minute.
fn measure(part: Part, args: &Args) -> anyhow::Result<Vec<Row>> {
    let effort = Effort::lasting(Duration::from_millis(args.time_ms));
    match part {
        Part::Memory => {
            let case = |name: &str, len| Case::limit(name, move |effort: &Effort| Ok(memory::copy(effort, len)));
            race(&mut [case("memcpy 4 MiB", BLOCK), case("memcpy 128 KiB", CHUNK)], args.rounds, &effort)
        }
        Part::Uring => {
            let file = UringFile::prepare(&args.dir, args.file_size.0).context("raw disk")?;
            race(&mut disk_cases(&RefCell::new(file)), args.rounds, &effort)
        }
        Part::Quic => {
            let pki = Pki::generate()?;
            let placement = Placement::new(Place::Free)?;
            let start = |mtu| Quic::start(&pki, mtu, &placement);
            let connections = [start(Mtu::Internet)?, start(Mtu::Jumbo)?, start(Mtu::Loopback)?];
            let mut cases = quic_cases(&connections);
            race(&mut cases, args.rounds, &effort)
        }
        Part::QuicSettings => {
            let mut cases = settings::cases(&Pki::generate()?, &Placement::new(Place::Free)?)?;
            race(&mut cases, args.rounds, &effort)
        }
        Part::Tls => {
            let tls = RefCell::new(Tls::start(&Pki::generate()?)?);
            let case = |name: &str, size| {
                Case::limit(name, {
                    let tls = &tls;
                    move |effort: &Effort| tls.borrow_mut().get(effort, size)
                })
            };
            race(&mut [case("TLS/TCP GET 4 MiB", BLOCK), case("TLS/TCP GET 4 KiB", PAGE)], args.rounds, &effort)
        }
        Part::Fuse => {
            let fuse = NullFuse::mount()?;
            let file = fuse.file(FILE_BYTES);
            let mut cases = [
                Case::limit("FUSE O_DIRECT 1 MiB", |effort: &Effort| file.read_direct(effort, MIB)),
                Case::limit("FUSE O_DIRECT 4 KiB random", |effort: &Effort| file.read_direct_random(effort, PAGE)),
                Case::limit("FUSE buffered 1 MiB", |effort: &Effort| file.read_buffered(effort, MIB)),
            ];
            race(&mut cases, args.rounds, &effort)
        }
    }
}

fn disk_cases(file: &RefCell<UringFile>) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for (size, block) in [("4 MiB", BLOCK), ("128 KiB", CHUNK), ("4 KiB", PAGE)] {
        for depth in [1, 32] {
            let read = move |effort: &Effort| file.borrow_mut().read(effort, block, depth);
            cases.push(Case::limit(format!("io_uring read {size} depth {depth}"), read));
            let write = move |effort: &Effort| file.borrow_mut().write(effort, block, depth);
            cases.push(Case::limit(format!("io_uring write {size} depth {depth}"), write));
        }
    }
    cases
}

fn quic_cases(connections: &[Quic; 3]) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for (mtu, quic) in [Mtu::Internet, Mtu::Jumbo, Mtu::Loopback].into_iter().zip(connections) {
        for (size, bytes, depth) in [("4 MiB", BLOCK, 1), ("4 KiB", PAGE, 1), ("4 KiB", PAGE, 64)] {
            let name = format!("QUIC {} GET {size} depth {depth}", mtu.payload());
            cases.push(Case::limit(name, move |effort: &Effort| quic.get(effort, bytes, depth)));
        }
    }
    cases
}
