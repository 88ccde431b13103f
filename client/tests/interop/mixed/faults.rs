//! Databases that restart or fall silent, and clocks that are set, under a mount at work: what programs see is
//! what DESIGN.md says, and nothing is wrong with the volume afterwards.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use shoal_runtime::clock;
use shoal_testkit::{ChildGuard, PATIENCE, RedisServer, SqlKind, SqlServer, have_command, skipped, test_seed};

use super::op::Sync;
use super::own::{Own, Trouble};
use super::{FRESH, is_long, pause, until};
use crate::interop::pair::Pair;
use crate::interop::writing::PLAIN;
use crate::rig::Mount;

/// A database server of one's own.
enum Server {
    Sql(SqlServer),
    Redis(RedisServer),
}

impl Server {
    fn url(&self) -> String {
        match self {
            Server::Sql(server) => server.fresh_url(),
            Server::Redis(server) => server.fresh_url(),
        }
    }

    /// Killed, and started again after `time`.
    fn is_away_for(&mut self, time: Duration) {
        match self {
            Server::Sql(server) => server.kill(),
            Server::Redis(server) => server.kill(),
        }
        pause(time);
        match self {
            Server::Sql(server) => server.restart(),
            Server::Redis(server) => server.restart(),
        }
    }

    fn is_silent_for(&self, time: Duration) {
        match self {
            Server::Sql(server) => server.freeze(),
            Server::Redis(server) => server.freeze(),
        }
        pause(time);
        match self {
            Server::Sql(server) => server.thaw(),
            Server::Redis(server) => server.thaw(),
        }
    }
}

#[test]
fn postgres_may_restart_and_fall_silent() {
    let Some(server) = SqlServer::start(SqlKind::Postgres) else { return };
    fail_and_come_back(Server::Sql(server));
}

#[test]
fn mariadb_may_restart_and_fall_silent() {
    let Some(server) = SqlServer::start(SqlKind::MariaDb) else { return };
    fail_and_come_back(Server::Sql(server));
}

#[test]
fn redis_may_restart_and_fall_silent() {
    let Some(server) = RedisServer::start(&[]) else { return };
    fail_and_come_back(Server::Redis(server));
}

/// Programs wait as long as the database is away. Only a change whose commit was under way when it went may fail.
fn fail_and_come_back(mut server: Server) {
    let Some(pair) = Pair::at("faults", server.url()) else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    let mut at_work = AtWork::begin(pair, |_| ());
    let away = Duration::from_secs(if is_long() { 30 } else { 1 });
    let restarts = if is_long() { 5 } else { 2 };
    for _ in 0..restarts {
        for (number, trouble) in at_work.goes_on_while(|_| server.is_away_for(away)) {
            assert_eq!(trouble.error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{}", trouble.what);
            let own = &mut at_work.own[number];
            own.go_on_at(&own.mount.clone(), &trouble);
        }
    }
    at_work.needs_nothing_while("the database is silent", |_| server.is_silent_for(away));
    at_work.end().assert_sound();
}

#[test]
fn a_clock_that_is_set_harms_nothing_that_is_stored() {
    let Some(pair) = Pair::new("faults-clock") else { return };
    if !have_command("cc") {
        return skipped("there is no C compiler: scripts/install-deps");
    }
    pair.juicefs_formats(&PLAIN, &[]);
    let (step, library) = (pair.rig.path("step"), pair.rig.path("clock.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/mixed/clock.c");
    pair.rig.ok(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source));
    let file = File::create(&step).unwrap();
    let set = |seconds: i64| file.write_all_at(&seconds.to_le_bytes(), 0).unwrap();
    set(0);
    let theirs = pair.juicefs_mount("theirs", &[&FRESH[..], &["--heartbeat", "1"]].concat());
    let mut at_work = AtWork::begin(pair, |command| {
        command.env("LD_PRELOAD", &library).env("CLOCK_STEP", &step);
    });
    std::fs::create_dir(theirs.point.join("beside")).unwrap();
    let mut beside = Own::new("beside", &theirs.point, Sync::Close, 1);
    for hours in [1, -1, 0] {
        let touched = at_work.mount.point.join("touched");
        at_work.needs_nothing_while("the clock is set", |_| {
            set(hours * 3600);
            beside.steps(40);
            File::create(&touched).unwrap();
        });
        let age = touched.metadata().unwrap().mtime() - clock::unix_now().as_secs() as i64;
        assert!((age - hours * 3600).abs() < 600, "the mount's clock was set by {hours} h: {age} s");
    }
    beside.assert_seen_at(&at_work.mount.point, "ours");
    theirs.unmount(&at_work.pair.rig);
    let names = at_work.own.each_ref().map(|own| own.name);
    let pair = at_work.end();
    names.iter().for_each(|name| pair.assert_counted(name));
    pair.count_anew("/beside");
    pair.assert_sound();
}

/// A mount of ours with some programs at work in it, each in a directory of its own.
struct AtWork {
    pair: Pair,
    mount: Mount,
    own: [Own; 3],
}

impl AtWork {
    /// Mounts the volume by a command that `change` may change.
    fn begin(pair: Pair, change: impl FnOnce(&mut Command)) -> AtWork {
        let seed = test_seed("faults");
        let flags = [&FRESH[..], &["--writable", "--heartbeat", "1"]].concat();
        let (mut command, point) = pair.rig.mount_command("ours", &pair.url(), &[], &flags);
        change(&mut command);
        let process = ChildGuard::spawn("ours", &mut command);
        process.wait_for_line("ready", PATIENCE, |line| line.starts_with("shoal mount ready").then_some(()));
        let mut number = 0;
        let own = ["a", "b", "c"].map(|name| {
            std::fs::create_dir(point.join(name)).unwrap();
            number += 1;
            Own::new(name, &point, Sync::Fsync, seed + number)
        });
        AtWork { pair, mount: Mount { point, process }, own }
    }

    /// Lets the programs work until `fault` is over and each has done something after it. Gives whom it stopped, and where.
    fn goes_on_while(&mut self, fault: impl FnOnce(&Mount)) -> Vec<(usize, Trouble)> {
        let (stop, mount) = (AtomicBool::new(false), &self.mount);
        std::thread::scope(|scope| {
            let stop = &stop;
            let workers = self.own.each_mut().map(|own| scope.spawn(move || until(stop, || own.step())));
            fault(mount);
            pause(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            let ended = workers.map(|worker| worker.join().unwrap());
            let stopped = ended.into_iter().enumerate();
            stopped.filter_map(|(number, trouble)| trouble.map(|trouble| (number, *trouble))).collect()
        })
    }

    /// [`AtWork::goes_on_while`] where no program may notice.
    fn needs_nothing_while(&mut self, what: &str, fault: impl FnOnce(&Mount)) {
        if let Some((_, trouble)) = self.goes_on_while(fault).first() {
            panic!("{what}: {}: {}", trouble.what, trouble.error);
        }
    }

    /// Everything that must be there is, here and for JuiceFS.
    fn end(self) -> Pair {
        let AtWork { pair, mount, own } = self;
        own.iter().for_each(|own| own.assert_seen_at(&mount.point, "ours"));
        mount.unmount(&pair.rig);
        let theirs = pair.juicefs_mount("after", &[]);
        own.iter().for_each(|own| own.assert_seen_at(&theirs.point, "JuiceFS"));
        theirs.unmount(&pair.rig);
        pair
    }
}
