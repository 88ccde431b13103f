//! Both clients at work on one volume at once, at random, in every database: then both see one tree, which is the one that must be,
//! and nobody finds anything wrong with it.
//!
//! `SHOAL_TEST_SEED` chooses what is done; `SHOAL_LONG` makes it last.

mod counter;
mod crash;
mod faults;
mod model;
mod op;
mod ours;
mod own;
mod shared;
mod verdict;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shoal_runtime::clock;
use shoal_testkit::test_seed;

use self::counter::Guard;
use self::op::Sync;
use self::own::Own;
use self::shared::{QUOTA, Racer};
use super::pair::{Pair, look};
use super::writing::PLAIN;
use crate::rig::oracle::OracleMount;
use crate::rig::{EngineKind, Mount};

/// Kernel caches off: what one client did, the other shows at once.
const FRESH: [&str; 6] = ["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"];

#[test]
fn both_work_at_once_on_sqlite() {
    work_and_judge(EngineKind::Sqlite, EngineKind::Redis);
}

#[test]
fn both_work_at_once_on_postgres() {
    work_and_judge(EngineKind::Postgres, EngineKind::Sqlite);
}

#[test]
fn both_work_at_once_on_mariadb() {
    work_and_judge(EngineKind::MariaDb, EngineKind::Postgres);
}

#[test]
fn both_work_at_once_on_redis() {
    work_and_judge(EngineKind::Redis, EngineKind::Postgres);
}

/// Whether it lasts.
fn is_long() -> bool {
    std::env::var_os("SHOAL_LONG").is_some()
}

/// What ended `work`, if it was not told to stop.
fn until<E>(stop: &AtomicBool, mut work: impl FnMut() -> Result<(), E>) -> Option<E> {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = work() {
            return Some(error);
        }
    }
    None
}

/// Lets `time` pass: a fault's, or that before one, not one that anything is waited for.
fn pause(time: Duration) {
    let start = clock::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// A volume that both have mounted, with places to work in.
struct Both {
    pair: Pair,
    ours: Mount,
    theirs: OracleMount,
}

impl Both {
    fn new(kind: EngineKind, format: &[&str], flags: &[&str]) -> Option<Both> {
        let pair = Pair::on(kind, &format!("mixed-{kind:?}").to_lowercase())?;
        pair.juicefs_formats(&PLAIN, format);
        // Clients that are there already would count nothing for it until their next heartbeat.
        pair.rig.ok(pair.rig.shoal().args(["quota", "set", &pair.url(), "--path", "/shared", "--create"]).args(QUOTA));
        let (ours, theirs) = pair.both_mount("", flags);
        for name in ["ours", "theirs"] {
            std::fs::create_dir(theirs.point.join(name)).unwrap();
        }
        for guard in Guard::ALL {
            std::fs::write(guard.path(&theirs.point), [0; 8]).unwrap();
        }
        Some(Both { pair, ours, theirs })
    }

    fn unmount(self) -> Pair {
        self.ours.unmount(&self.pair.rig);
        self.theirs.unmount(&self.pair.rig);
        self.pair
    }
}

impl Pair {
    /// The volume mounted by both; `which` tells these mounts from others.
    fn both_mount(&self, which: &str, flags: &[&str]) -> (Mount, OracleMount) {
        let theirs = self.juicefs_mount(&format!("theirs{which}"), &[&FRESH, flags, &["--open-cache", "0"]].concat());
        let ours = self.shoal_mount(&format!("ours{which}"), &[&FRESH, flags, &["--writable"]].concat());
        (ours, theirs)
    }
}

/// Lets both work, and then judge.
fn work_and_judge(kind: EngineKind, other: EngineKind) {
    let seed = test_seed("both at work");
    let steps = if is_long() { 5_000 } else { 150 };
    let Some(both) = Both::new(kind, &[], &[]) else { return };
    let mut own = [
        Own::new("ours", &both.ours.point, Sync::Close, seed),
        Own::new("theirs", &both.theirs.point, Sync::Close, seed + 1),
    ];
    let counted = steps / 10;
    std::thread::scope(|scope| {
        for own in &mut own {
            scope.spawn(move || own.steps(steps));
        }
        for (mount, seed) in [(&both.ours.point, seed + 2), (&both.theirs.point, seed + 3)] {
            scope.spawn(move || race(mount, seed, steps, counted));
        }
        scope.spawn(|| compact(&both, steps / 150));
    });
    for guard in Guard::ALL {
        assert_eq!(guard.read(&both.ours.point), 2 * counted, "{guard:?} through ours");
        assert_eq!(guard.read(&both.theirs.point), 2 * counted, "{guard:?} through JuiceFS");
    }
    for own in &own {
        own.assert_seen_at(&both.ours.point, "ours");
        own.assert_seen_at(&both.theirs.point, "JuiceFS");
    }
    let seen = look(&both.ours.point);
    seen.assert_same(&look(&both.theirs.point), "ours and JuiceFS");
    let pair = both.unmount();
    let (ours, theirs) = pair.both_mount("-again", &[]);
    seen.assert_same(&look(&ours.point), "before and after, ours");
    seen.assert_same(&look(&theirs.point), "before and after, JuiceFS");
    Both { pair, ours, theirs }.unmount().judge(other, &seen);
}

impl Pair {
    fn judge(&self, other: EngineKind, seen: &shoal_testkit::Snapshot) {
        self.assert_counted("ours");
        self.count_anew("/shared");
        self.assert_sound();
        self.assert_quota_is_right("/shared");
        self.assert_dumps_load(other, seen);
    }
}

/// One client's part of the races, and of the counting.
fn race(mount: &Path, seed: u64, steps: u64, counted: u64) {
    let mut racer = Racer::new(mount.join("shared"), seed);
    for step in 0..steps {
        if let Err(error) = racer.step() {
            panic!("{}: step {step}: {error}", racer.root.display());
        }
        if step < counted {
            for guard in Guard::ALL {
                guard.count_up(mount).unwrap_or_else(|error| panic!("{guard:?} at {}: {error}", mount.display()));
            }
        }
    }
}

/// Has chunks compacted under the others' hands, by either client.
fn compact(both: &Both, times: u64) {
    for _ in 0..times {
        both.pair.rig.ok(both.pair.rig.shoal().arg("compact").arg(&both.ours.point));
        both.pair.juicefs(&["compact", &both.theirs.point.display().to_string()]);
    }
}
