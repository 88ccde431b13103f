//! Mount processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use shoal_testkit::{ChildGuard, PATIENCE};

use super::Rig;
use super::node::{Node, join_list, metric};

/// Seconds a mount of a test waits for a node before it asks the next place. Long: a test that counts origin requests must not
/// lose them to a loaded machine. Tests of slow peers set their own.
const PEER_TIMEOUT: &str = "300";

/// A mounted volume.
pub struct Mount {
    pub point: PathBuf,
    pub process: ChildGuard,
}

impl Mount {
    /// The mount's metrics, read through the mount itself.
    pub fn stats(&self) -> String {
        std::fs::read_to_string(self.point.join(".stats")).expect("the mount serves its metrics")
    }

    /// One metric of it, as [`metric`].
    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.stats(), name)
    }

    /// Bytes delivered from `tier`: `ram`, `peer` or `origin`.
    pub fn bytes_from(&self, tier: &str) -> u64 {
        self.metric(&format!("shoal_cache_read_bytes_total{{tier=\"{tier}\"}}"))
    }

    /// Takes away what is left of it after its process was killed.
    #[track_caller]
    pub fn detach(self, rig: &Rig) {
        rig.ok(rig.shoal().args(["umount", "--force"]).arg(&self.point));
    }

    /// Unmounts in order and waits for the process.
    #[track_caller]
    pub fn unmount(mut self, rig: &Rig) {
        rig.ok(rig.shoal().arg("umount").arg(&self.point));
        assert!(self.process.wait(PATIENCE).success(), "the mount process ends well");
    }
}

impl Rig {
    /// The command `shoal {name}` with the ring of `nodes`.
    pub fn on_ring(&self, name: &str, nodes: &[Node]) -> Command {
        let mut command = self.shoal();
        command.args([name, "--join", &join_list(nodes)]).arg("--certs").arg(self.path("client"));
        command
    }

    /// The command that mounts the volume at `url` on the new directory `name`, through `nodes` if there are any.
    pub fn mount_command(&self, name: &str, url: &str, nodes: &[Node], flags: &[&str]) -> (Command, PathBuf) {
        let point = self.mkdir(name);
        let mut command = self.shoal();
        command.args(["mount", url]).arg(&point);
        if !flags.contains(&"--metrics") {
            command.args(["--metrics", "none"]);
        }
        if !flags.contains(&"--peer-timeout") {
            command.args(["--peer-timeout", PEER_TIMEOUT]);
        }
        if !flags.contains(&"--hedge-budget") {
            // For the same reason: a node that is merely slow for the machine's sake is waited for.
            command.args(["--hedge-budget", "0"]);
        }
        if !["--writable", "--read-only", "-o"].iter().any(|flag| flags.contains(flag)) {
            // Who writes says so.
            command.arg("--read-only");
        }
        if !nodes.is_empty() {
            command.args(["--join", &join_list(nodes)]).arg("--certs").arg(self.path("client"));
        }
        command.args(flags);
        (command, point)
    }

    /// Mounts the volume at `url` and waits until it serves.
    #[track_caller]
    pub fn mount(&self, name: &str, url: &str, nodes: &[Node], flags: &[&str]) -> Mount {
        let (mut command, point) = self.mount_command(name, url, nodes, flags);
        let process = ChildGuard::spawn(name, &mut command);
        process.wait_for_line("ready", PATIENCE, |line| line.starts_with("shoal mount ready").then_some(()));
        Mount { point, process }
    }
}

/// Reads the whole file.
#[track_caller]
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
