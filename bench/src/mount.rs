//! `shoal-bench mount`: a mounted volume against a FUSE file system that answers from memory.
//!
//! The asking end is the program that reads; all of Shoal, nodes included, is the answering end.

use shoal_types::ByteSize;

use crate::cluster::{ClusterOptions, LocalCluster, Mount};
use crate::limits::fuse::NullFuse;
use crate::limits::pki::Pki;
use crate::limits::quic::{Mtu, Quic};
use crate::limits::{BLOCK, MIB, PAGE};
use crate::options::{RaceArgs, Rows};
use crate::placement::{Place, Placement};
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::sample::Effort;

/// Least memory of the mount that has to fetch everything again: room for a window of read-ahead.
const COLD_MEMORY_MIN: u64 = 32 << 20;

/// Measure a mounted volume against a FUSE file system that answers from memory.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    race: RaceArgs,
    /// Nodes of the ring.
    #[arg(long, default_value_t = 1)]
    nodes: u8,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    Report::new("mount", measure(&args.race, args.nodes, Rows::All)?).publish(args.race.json())
}

/// Measures over a ring of one node.
pub fn rows(args: &RaceArgs, rows: Rows) -> anyhow::Result<Vec<Row>> {
    measure(args, 1, rows)
}

fn measure(args: &RaceArgs, nodes: u8, rows: Rows) -> anyhow::Result<Vec<Row>> {
    let placement = Placement::new(args.place.unwrap_or(Place::Free))?;
    let null = placement.serving(NullFuse::mount)?;
    let null = (null.file(args.bytes()), null);
    let options = ClusterOptions { nodes, file_bytes: args.bytes(), cold_bytes: 0 };
    let cluster = placement.serving(|| LocalCluster::start(&args.dir, options))?;
    let mount = |name: &str, memory: u64| placement.serving(|| cluster.mount(name, memory));
    // Three quarters of it are for blocks that stay, in shards of 64 MiB that fill unevenly: with twice the file some are evicted.
    let warm = mount("warm", 4 * args.bytes().max(COLD_MEMORY_MIN))?;
    // A file larger than memory, read from end to end, is never there the next time.
    let cold = mount("cold", (args.bytes() / 2).max(COLD_MEMORY_MIN))?;
    read_all(&warm, args.bytes())?;
    let quic = Quic::start(&Pki::generate()?, Mtu::Loopback, &placement)?;

    let (null, warm, cold) = (&null.0, &warm.file(), &cold.file());
    let cases = vec![
        Case::limit("mount O_DIRECT 1 MiB from RAM", |effort: &Effort| null.read_direct(effort, MIB))
            .ours(Goals::rate(0.8), |effort: &Effort| warm.read_direct(effort, MIB)),
        Case::limit("mount buffered 1 MiB from RAM", |effort: &Effort| null.read_buffered(effort, MIB))
            .ours(Goals::rate(0.8), |effort: &Effort| warm.read_buffered(effort, MIB)),
        Case::limit("mount O_DIRECT 4 KiB random from RAM", |effort: &Effort| null.read_direct_random(effort, PAGE))
            .ours(Goals::rate(0.6), |effort: &Effort| warm.read_direct_random(effort, PAGE)),
        Case::limit("mount buffered 1 MiB from peers against null FUSE", |effort: &Effort| {
            null.read_buffered(effort, MIB)
        })
        .ours(Goals::NONE, |effort: &Effort| cold.read_buffered(effort, MIB)),
        Case::limit("mount O_DIRECT 1 MiB from peers against bare QUIC 4 MiB", |effort: &Effort| {
            quic.get(effort, BLOCK, 4)
        })
        .ours(Goals::NONE, |effort: &Effort| cold.read_direct(effort, MIB)),
    ];
    args.race(cases, rows)
}

/// Brings the whole file into the mount's memory.
fn read_all(mount: &Mount, bytes: u64) -> anyhow::Result<()> {
    let sample = mount.file().read_direct(&Effort::ops(bytes / MIB as u64), MIB)?;
    anyhow::ensure!(sample.bytes == bytes, "only {} were read", ByteSize(sample.bytes));
    Ok(())
}
