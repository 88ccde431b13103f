//! The oracle: the real JuiceFS client, which `scripts/install-deps --test` puts in `.venv`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    /// Unmounts in order: everything written is in the volume then.
    #[track_caller]
    pub fn unmount(mut self, rig: &Rig) {
        let point = self.point.to_str().expect("a test's path is text").to_owned();
        rig.oracle(&self.binary, &["umount", "--flush", &point]);
        self.process.wait(PATIENCE);
    }
}
