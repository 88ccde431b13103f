//! Mounts of ours that race for the same names: every count of use is right afterwards, without a check that repairs it. (With a
//! JuiceFS among them it need not be: 1.4.2 counts after its transactions.)

use shoal_testkit::test_seed;

use super::op::Sync;
use super::own::Own;
use super::shared::{QUOTA, Racer};
use super::{FRESH, is_long};
use crate::interop::pair::{Pair, look};
use crate::interop::writing::PLAIN;
use crate::rig::EngineKind;

#[test]
fn mounts_of_ours_that_race_count_right_on_sqlite() {
    race_and_judge(EngineKind::Sqlite);
}

#[test]
fn mounts_of_ours_that_race_count_right_on_postgres() {
    race_and_judge(EngineKind::Postgres);
}

#[test]
fn mounts_of_ours_that_race_count_right_on_mariadb() {
    race_and_judge(EngineKind::MariaDb);
}

#[test]
fn mounts_of_ours_that_race_count_right_on_redis() {
    race_and_judge(EngineKind::Redis);
}

fn race_and_judge(kind: EngineKind) {
    let seed = test_seed("mounts of ours");
    let steps = if is_long() { 5_000 } else { 150 };
    let Some(pair) = Pair::on(kind, &format!("ours-{kind:?}").to_lowercase()) else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    pair.rig.ok(pair.rig.shoal().args(["quota", "set", &pair.url(), "--path", "/shared", "--create"]).args(QUOTA));
    let flags = [&FRESH[..], &["--writable"]].concat();
    let mounts = ["one", "other"].map(|name| pair.shoal_mount(name, &flags));
    std::fs::create_dir(mounts[0].point.join("own")).unwrap();
    let mut own = Own::new("own", &mounts[0].point, Sync::Close, seed);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let mut racer = Racer::new(mounts[number % 2].point.join("shared"), seed + number as u64);
            scope
                .spawn(move || (0..steps).for_each(|step| racer.step().unwrap_or_else(|e| panic!("step {step}: {e}"))));
        }
        scope.spawn(|| own.steps(steps));
        scope.spawn(|| {
            for mount in &mounts {
                pair.rig.ok(pair.rig.shoal().arg("compact").arg(&mount.point));
            }
        });
    });
    own.assert_seen_at(&mounts[1].point, "the other");
    look(&mounts[0].point).assert_same(&look(&mounts[1].point), "one and the other");
    for mount in mounts {
        mount.unmount(&pair.rig);
    }
    pair.assert_sound();
    pair.assert_quota_is_right("/shared");
}
