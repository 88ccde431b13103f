//! The oracle: the real JuiceFS client, which `scripts/install-deps --test` puts in `.venv`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use shoal_testkit::{ChildGuard, PATIENCE, skipped, wait_until};

use super::{Rig, said};

/// The JuiceFS binary: `SHOAL_JUICEFS`, or the one in `.venv`. `None`, and a loud word, without it.
pub fn juicefs() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/juicefs");
    let path = std::env::var_os("SHOAL_JUICEFS").map_or(venv, PathBuf::from);
    if !path.is_file() {
        skipped("the JuiceFS client is not installed: scripts/install-deps --test");
        return None;
    }
    Some(path)
}

/// A volume mounted by JuiceFS.
pub struct OracleMount {
    pub point: PathBuf,
    process: ChildGuard,
    binary: PathBuf,
}

impl Rig {
    /// A command of the oracle that calls nobody.
    pub fn oracle_command(&self, binary: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.arg("--no-agent").args(words).current_dir(self.path("")).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the oracle; panics with its output unless it succeeds. Returns both streams.
    #[track_caller]
    pub fn oracle(&self, binary: &Path, words: &[&str]) -> String {
        let output = self.oracle_command(binary, words).output().expect("the oracle runs");
        assert!(output.status.success(), "juicefs {words:?} failed\n{}", said(&output));
        said(&output)
    }

    /// Mounts the volume at `url` with JuiceFS on the new directory `name`.
    #[track_caller]
    pub fn oracle_mount(&self, binary: &Path, name: &str, url: &str, flags: &[&str]) -> OracleMount {
        let point = self.mkdir(name);
        let mut mount = self.oracle_command(binary, &["mount", url]);
        mount.arg(&point).args([
            "--no-usage-report",
            "--enable-xattr",
            "--skip-dir-mtime",
            "0",
            "--metrics",
            "127.0.0.1:0",
        ]);
        mount
            .arg("--cache-dir")
            .arg(self.mkdir(format!("{name}-cache")))
            .arg("--log")
            .arg(self.path(format!("{name}.log")));
        mount.args(["--backup-meta", "0"]).args(flags);
        let process = ChildGuard::spawn(name, &mut mount);
        wait_until("JuiceFS serves", PATIENCE, || point.join(".config").exists());
        OracleMount { point, process, binary: binary.to_owned() }
    }
}

impl OracleMount {
    /// Ends it as a crash does: whoever has files open there is told that the connection is gone.
    pub fn kill(&mut self) {
        // The process that was started looks after the one that serves, and would start another.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        let children = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("children")));
        let children: Vec<String> = children.map_while(Result::ok).collect();
        self.process.kill();
        for child in children.iter().flat_map(|children| children.split_whitespace()) {
            let pid = child.parse().ok().and_then(Pid::from_raw).expect("a process has a number");
            kill_process(pid, Signal::KILL).expect("a process that runs can be killed");
        }
    }

    /// Takes away what [`OracleMount::kill`] left.
    #[track_caller]
    pub fn detach(self, rig: &Rig) {
        rig.ok(Command::new("umount").arg("-l").arg(&self.point));
    }

    /// Unmounts in order: everything written is in the volume then.
    #[track_caller]
    pub fn unmount(mut self, rig: &Rig) {
        let point = self.point.to_str().expect("a test's path is text").to_owned();
        wait_until("nobody uses the mount any more", PATIENCE, || {
            let output =
                rig.oracle_command(&self.binary, &["umount", "--flush", &point]).output().expect("the oracle runs");
            // The kernel may not have let go of what was closed a moment ago.
            assert!(output.status.success() || said(&output).contains("busy"), "{}", said(&output));
            output.status.success()
        });
        self.process.wait(PATIENCE);
    }
}
