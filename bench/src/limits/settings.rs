//! What each QUIC setting Shoal keeps is worth: bare quinn with all of them against bare quinn without the one.
//!
//! The limit of a row has every setting, ours lacks the one named. A ratio near 1 says that this machine does not need it; what
//! loopback cannot show (windows for long paths) is in the design's reasons, not here.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::pki::Pki;
use super::quic::{Mtu, Quic, Settings};
use super::{BLOCK, PAGE};
use crate::placement::Placement;
use crate::race::Case;
use crate::report::Goals;
use crate::sample::{Effort, Sample};

/// Kernel buffers hold as much as this; more in flight is lost on loopback.
const IN_FLIGHT: u64 = 4 << 20;

/// A setting, both ways, and the work that shows it.
struct Row {
    name: &'static str,
    kept: Settings,
    without: Settings,
    size: usize,
    depth: usize,
}

fn rows() -> [Row; 9] {
    let (loopback, jumbo, internet) =
        (Settings::of(Mtu::Loopback), Settings::of(Mtu::Jumbo), Settings::of(Mtu::Internet));
    let calm = Settings { in_flight: Some(IN_FLIGHT), ..loopback };
    let row = |name, kept, without, size, depth| Row { name, kept, without, size, depth };
    [
        row("packets of up to 65507 on loopback: 1452", loopback, Settings { discover: 1452, ..loopback }, BLOCK, 1),
        row("offload of packets of 1452: off", internet, Settings { segments: 1, ..internet }, BLOCK, 1),
        row("at most 7 packets of 8952 a call: 10", jumbo, Settings { segments: 10, ..jumbo }, BLOCK, 1),
        row("socket buffers of 4 MiB: the system's", loopback, Settings { large_buffers: false, ..loopback }, BLOCK, 1),
        row("4 MiB in flight on loopback: 16 MiB", calm, Settings { in_flight: Some(4 * IN_FLIGHT), ..calm }, BLOCK, 8),
        row(
            "stream window of 2 MiB: 256 KiB",
            Settings { stream_window: Some(2 << 20), ..loopback },
            Settings { stream_window: Some(256 << 10), ..loopback },
            BLOCK,
            1,
        ),
        row("one thread an endpoint, 4 KiB: two", loopback, Settings { threads: 2, ..loopback }, PAGE, 1),
        row("one thread an endpoint, 64 x 4 KiB: two", loopback, Settings { threads: 2, ..loopback }, PAGE, 64),
        row("one connection, 4 x 4 MiB: four", loopback, Settings { connections: 4, ..loopback }, BLOCK, 4),
    ]
}

/// A case for each setting. Connections are made as the cases are.
pub fn cases(pki: &Pki, placement: &Placement) -> anyhow::Result<Vec<Case<'static>>> {
    let mut cases = Vec::new();
    for Row { name, kept, without, size, depth } in rows() {
        let connect = |settings| Quic::with(pki, settings, placement).with_context(|| name);
        let (kept, without) = (connect(kept)?, connect(without)?);
        let limit = move |effort: &Effort| kept.get(effort, size, depth);
        cases.push(Case::limit(name, limit).ours(Goals::NONE, move |effort: &Effort| without.get(effort, size, depth)));
    }
    match system_allocator() {
        Some(program) => {
            let quic = Quic::start(pki, Mtu::Loopback, placement)?;
            let limit = move |effort: &Effort| quic.get(effort, BLOCK, 1);
            let ours = move |effort: &Effort| with_system_allocator(&program, effort);
            cases.push(Case::limit("mimalloc: the system's allocator", limit).ours(Goals::NONE, ours));
        }
        None => eprintln!(
            "left out: the allocator's row: build the other program with `cargo build --release -p shoal-bench --examples`"
        ),
    }
    Ok(cases)
}

/// This program with the system's allocator, if it was built.
fn system_allocator() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.parent()?.join("examples/system_allocator");
    program.exists().then_some(program)
}

/// The same work by `program`.
fn with_system_allocator(program: &PathBuf, effort: &Effort) -> anyhow::Result<Sample> {
    let dir = shoal_testkit::TestDir::new("allocator");
    let json = dir.join("limits.json");
    let time_ms = effort.time.min(Duration::from_secs(5)).as_millis().to_string();
    let output = Command::new(program)
        .args(["limits", "--only", "quic", "--rounds", "1", "--time-ms", &time_ms, "--json"])
        .arg(&json)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let name = format!("QUIC {} GET 4 MiB depth 1", Mtu::Loopback.payload());
    let rows = report["rows"].as_array().context("a report without rows")?;
    let row = rows.iter().find(|row| row["name"] == name.as_str()).context("no such row")?;
    let number = |field: &str| row["limit"][field].as_f64().with_context(|| format!("no {field}"));
    let bytes = number("mb_per_s")? * 1e6;
    Ok(Sample {
        bytes: bytes as u64,
        ops: number("ops_per_s")? as u64,
        wall: Duration::from_secs(1),
        cpu_s: number("cpu_s_per_gb")? * bytes / 1e9,
        latencies: vec![Duration::from_secs_f64(number("p50_us")? / 1e6)],
    })
}
