//! A process that is killed with `SIGKILL` while it writes: what it was told is stored is there afterwards, and nothing is wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use shoal_store::{IoChoice, Store};

use super::common::{Rng, bare, block, check_whole, key, open, ways};

const LIMIT: u64 = 4 << 20;
const DIR: &str = "SHOAL_TEST_CRASH_DIR";
const FIRST: &str = "SHOAL_TEST_CRASH_FIRST";
/// How often a process is killed, for each way of doing I/O.
const ROUNDS: &str = "SHOAL_TORTURE_KILLS";
const PLAIN: &str = "SHOAL_TEST_CRASH_PLAIN";

fn len(n: u64) -> usize {
    [300, 20_000, 3000, 150_000, 70][n as usize % 5]
}

async fn write_for_ever(store: Store, first: u64) {
    let mut n = first;
    loop {
        let inserts = (n..n + 8).map(|n| {
            let store = store.clone();
            shoal_runtime::task::spawn("insert", async move { store.insert(&key(n), block(n, len(n))).await })
        });
        for (n, insert) in (n..).zip(inserts.collect::<Vec<_>>()) {
            insert.await.unwrap().unwrap();
            println!("stored {n}");
        }
        n += 8;
    }
}

/// Not a test: the process that gets killed.
#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn child_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let first = std::env::var(FIRST).unwrap().parse().unwrap();
    let io = if std::env::var(PLAIN).is_ok() { IoChoice::Plain } else { IoChoice::Auto };
    let store = open(bare(Path::new(&dir), LIMIT, io)).await;
    write_for_ever(store, first).await;
}

/// Runs the child until it stored `count` blocks from `first` on, kills it, and gives the blocks it was told are stored.
fn write_and_kill(dir: &Path, first: u64, count: usize, io: IoChoice) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::child_writes_until_it_is_killed", "--ignored", "--nocapture"]);
    command.env(DIR, dir).env(FIRST, first.to_string()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if io == IoChoice::Plain {
        command.env(PLAIN, "1");
    }
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let numbers = |line: std::io::Result<String>| line.unwrap().split_once("stored ")?.1.trim().parse::<u64>().ok();
    let mut stored: Vec<u64> = Vec::new();
    let mut lines = lines.filter_map(numbers);
    stored.extend(lines.by_ref().take(count));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before the signal reached it counts too.
    stored.extend(lines);
    assert!(stored.len() >= count, "the child stopped by itself after {stored:?}");
    stored
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_it_had_stored() {
    let mut rng = Rng::new("kills");
    let rounds = std::env::var(ROUNDS).map_or(4, |rounds| rounds.parse().unwrap());
    for io in ways() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = 0;
        for round in 0..rounds {
            let stored = write_and_kill(dir.path(), first, 60 + rng.below(270) as usize, io);
            let store = open(bare(dir.path(), LIMIT, io)).await;
            let mut lost = Vec::new();
            for &n in &stored {
                if !check_whole(&store, n, &block(n, len(n))).await {
                    lost.push(n);
                }
            }
            // FIFO: what is missing is older than everything that is there, give or take blocks stored side by side.
            let oldest_kept = stored.iter().find(|n| !lost.contains(n)).copied().unwrap();
            assert!(
                lost.iter().all(|&n| n < oldest_kept + 16),
                "round {round}: lost {lost:?}, kept from {oldest_kept} on"
            );
            let kept: usize = stored.iter().filter(|n| !lost.contains(n)).map(|&n| len(n)).sum();
            // Of four segments one is spare.
            assert!(lost.is_empty() || kept > 1 << 20, "round {round}: only {kept} bytes left");
            let stats = store.stats();
            assert!(stats.nvme_used <= LIMIT, "{stats:?}");
            first = stored.iter().max().unwrap() + 100;
            store.insert(&key(first), block(first, 1000)).await.unwrap();
            assert!(check_whole(&store, first, &block(first, 1000)).await);
            first += 1;
            store.close().await;
        }
    }
}
