//! Either client killed at any moment while both work: what was synced is there, and nothing stays behind once the others, or the
//! next mounts, have cleaned up.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;
use shoal_testkit::{PATIENCE, Rng, test_seed, wait_until};

use super::counter::Guard;
use super::op::Sync;
use super::own::Own;
use super::shared::Racer;
use super::{Both, FRESH, is_long, pause, until};
use crate::interop::pair::{Pair, look};
use crate::rig::EngineKind;

/// Others take a client for dead after five of these.
const HEARTBEAT: [&str; 2] = ["--heartbeat", "1"];

#[test]
fn killed_clients_lose_nothing_that_was_synced_on_sqlite() {
    kill_in_turns(EngineKind::Sqlite);
}

#[test]
fn killed_clients_lose_nothing_that_was_synced_on_postgres() {
    kill_in_turns(EngineKind::Postgres);
}

#[test]
fn killed_clients_lose_nothing_that_was_synced_on_mariadb() {
    kill_in_turns(EngineKind::MariaDb);
}

#[test]
fn killed_clients_lose_nothing_that_was_synced_on_redis() {
    kill_in_turns(EngineKind::Redis);
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Ours,
    Theirs,
}

/// Counts of each guard's counter that were answered.
type Counted = [AtomicU64; 2];

fn kill_in_turns(kind: EngineKind) {
    let seed = test_seed("killed clients");
    let mut rng = Rng::new(seed);
    let rounds = if is_long() { 30 } else { 2 };
    let Some(mut both) = Both::new(kind, &["--trash-days", "0"], &HEARTBEAT) else { return };
    let mut own = [
        Own::new("ours", &both.ours.point, Sync::Fsync, seed + 1),
        Own::new("theirs", &both.theirs.point, Sync::Fsync, seed + 2),
    ];
    let counted = Counted::default();
    for round in 0..rounds {
        let victim = if round % 2 == 0 { Victim::Ours } else { Victim::Theirs };
        both = crash(both, victim, round, &mut own, &counted, &mut rng);
        for (own, who) in own.iter().zip(["ours", "JuiceFS"]) {
            own.assert_seen_at(&own.mount, who);
        }
    }
    wait_until("the dead are cleaned up behind", PATIENCE, || both.pair.sessions() == 2);
    for (guard, counted) in Guard::ALL.iter().zip(&counted) {
        let (found, counted) = (guard.read(&both.ours.point), counted.load(Ordering::Relaxed));
        assert!(
            (counted..=counted + rounds).contains(&found),
            "{guard:?}: {found} of {counted} to {counted} + {rounds}"
        );
    }
    let seen = look(&both.ours.point);
    seen.assert_same(&look(&both.theirs.point), "ours and JuiceFS");
    let pair = both.unmount();
    // Blocks that were stored and not recorded when their client was killed.
    pair.age_objects();
    pair.rig.ok(pair.rig.shoal().args(["gc", &pair.url(), "--delete"]));
    // And what a killed store of a local directory leaves: a file that never got its name.
    pair.juicefs(&["gc", &pair.url(), "--delete"]);
    // A client that is killed has use summed up that it has not written.
    pair.count_anew("/shared");
    pair.assert_sound();
    pair.assert_quota_is_right("/shared");
}

/// Lets both work, kills one of them while they do, and mounts it again.
fn crash(both: Both, victim: Victim, round: u64, own: &mut [Own; 2], counted: &Counted, rng: &mut Rng) -> Both {
    let Both { pair, mut ours, mut theirs } = both;
    let points = [ours.point.clone(), theirs.point.clone()];
    // A file without a name that is open when its client dies.
    let held = points[victim as usize].join(format!("held-{round}"));
    let open = File::create(&held).and_then(|file| std::fs::remove_file(&held).map(|()| file)).unwrap();
    let (stop, seed, lasts) = (AtomicBool::new(false), rng.next_u64(), Duration::from_millis(300 + rng.below(1200)));
    let trouble = std::thread::scope(|scope| {
        let stop = &stop;
        let workers = own.each_mut().map(|own| scope.spawn(move || until(stop, || own.step())));
        let racers = [0, 1].map(|number| {
            let mut racer = Racer::new(points[number].join("shared"), seed + number as u64);
            let mount = &points[number];
            scope.spawn(move || until(stop, || race_and_count(&mut racer, mount, counted)))
        });
        pause(lasts);
        match victim {
            Victim::Ours => ours.process.kill(),
            Victim::Theirs => theirs.kill(),
        }
        let [worker, other_worker] = victim.first(workers);
        let [racer, other_racer] = victim.first(racers);
        let trouble = worker.join().unwrap().expect("the mount is gone");
        assert!(is_end_of_mount(&trouble.error), "{}: {}", trouble.what, trouble.error);
        let error = racer.join().unwrap().expect("the mount is gone");
        assert!(is_end_of_mount(&error), "{error}");
        stop.store(true, Ordering::Relaxed);
        let survivor = format!("after {victim:?} was killed");
        other_worker.join().unwrap().inspect(|trouble| panic!("{survivor}: {}: {}", trouble.what, trouble.error));
        other_racer.join().unwrap().inspect(|error| panic!("{survivor}: {error}"));
        trouble
    });
    drop(open);
    let (name, flags) = (format!("{victim:?}-{round}").to_lowercase(), [&FRESH[..], &HEARTBEAT].concat());
    let (ours, theirs) = match victim {
        Victim::Ours => {
            ours.detach(&pair.rig);
            (pair.shoal_mount(&name, &[&flags[..], &["--writable"]].concat()), theirs)
        }
        Victim::Theirs => {
            theirs.detach(&pair.rig);
            (ours, pair.juicefs_mount(&name, &flags))
        }
    };
    own[victim as usize].go_on_at([&ours.point, &theirs.point][victim as usize], &trouble);
    Both { pair, ours, theirs }
}

/// A race, and one more on each counter.
fn race_and_count(racer: &mut Racer, mount: &Path, counted: &Counted) -> io::Result<()> {
    racer.step()?;
    for (guard, counted) in Guard::ALL.iter().zip(counted) {
        guard.count_up(mount)?;
        counted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

impl Victim {
    /// Ours and theirs, the victim's first.
    fn first<T>(self, both: [T; 2]) -> [T; 2] {
        let [ours, theirs] = both;
        match self {
            Victim::Ours => [ours, theirs],
            Victim::Theirs => [theirs, ours],
        }
    }
}

impl Pair {
    /// Clients that the volume knows of.
    fn sessions(&self) -> usize {
        let status = self.rig.ok(self.rig.shoal().args(["status", &self.url()]));
        let status: Value = serde_json::from_str(&status).expect("JSON");
        status["Sessions"].as_array().map_or(0, Vec::len)
    }
}

/// What system calls answer at a mount whose process was killed.
fn is_end_of_mount(error: &io::Error) -> bool {
    [Errno::NOTCONN, Errno::CONNABORTED].iter().any(|end| error.raw_os_error() == Some(end.raw_os_error()))
}
