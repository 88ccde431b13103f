//! A whole Shoal on this machine for one test: certificates, volumes, node processes on loopback addresses of their own, mounts.
//!
//! Everything lives in one directory and ends with the rig: mounts are detached, processes killed, files removed.

#![allow(dead_code, unused_imports, reason = "each suite uses its own part of the rig")]

pub mod engine;
pub mod lock_scenes;
pub mod locker;
pub mod mount;
pub mod node;
pub mod oracle;
pub mod origin;
pub mod s3;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use shoal_runtime::clock;
use shoal_testkit::{PATIENCE, TestDir, have_fuse, have_root, skipped};

pub use engine::EngineKind;
pub use mount::Mount;
pub use node::{Node, NodeOptions};

/// Everything one test needs.
pub struct Rig {
    dir: TestDir,
    /// Environment of every command of ours and of the oracle.
    env: Vec<(&'static str, String)>,
}

impl Rig {
    /// A rig with a certificate authority of group `test` and a client certificate. `None`, and a loud word, on a machine where
    /// nothing can be mounted.
    pub fn new(name: &str) -> Option<Rig> {
        if !have_root() || !have_fuse() {
            skipped("needs root and /dev/fuse");
            return None;
        }
        let rig = Rig { dir: TestDir::swept(name), env: Vec::new() };
        rig.ok(rig.shoal().args(["cert", "init", "--group", "test"]).arg(rig.path("ca")));
        rig.issue("client", "client");
        Some(rig)
    }

    /// Sets a variable for every command from now on, ours and the oracle's.
    pub fn set_env(&mut self, name: &'static str, value: &str) {
        self.env.push((name, value.to_owned()));
    }

    /// A path in the rig's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// A new directory in the rig's directory.
    pub fn mkdir(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.mkdir(name)
    }

    /// Makes a certificate of `role` (`node` or `client`) named `name` in the directory `name`.
    pub fn issue(&self, role: &str, name: &str) {
        self.ok(self.shoal().args(["cert", role, "--name", name, "--ca"]).arg(self.path("ca")).arg(self.path(name)));
    }

    /// The `shoal` command.
    pub fn shoal(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `command`; panics with its output unless it succeeds. Returns its standard output.
    #[track_caller]
    pub fn ok(&self, command: &mut Command) -> String {
        let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        assert!(output.status.success(), "{command:?} failed\n{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `command`, which must fail with exit code 1 and one sentence on standard error; returns the sentence.
    #[track_caller]
    pub fn refused(&self, command: &mut Command) -> String {
        let output = output_within(command, PATIENCE);
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?} must be refused\n{}", said(&output));
        assert!(text.starts_with("shoal") && text.contains(": "), "not a sentence of ours: {text}");
        assert_eq!(text.lines().count(), 1, "more than one sentence: {text}");
        text
    }

    /// Metadata URL of the volume `name`.
    pub fn url(&self, name: &str) -> String {
        format!("sqlite3://{}", self.path(format!("{name}.db")).display())
    }

    /// Makes the volume `name` with local objects and these further flags of `format`; returns its URL.
    #[track_caller]
    pub fn format(&self, name: &str, flags: &[&str]) -> String {
        let url = self.url(name);
        self.format_at(&url, name, flags);
        url
    }

    /// The same with metadata at `url`.
    #[track_caller]
    pub fn format_at(&self, url: &str, name: &str, flags: &[&str]) {
        let bucket = self.path(format!("{name}-objects"));
        self.ok(self.shoal().args(["format", url, name, "--bucket"]).arg(bucket).args(flags));
    }

    /// Loads `source` into the volume at `url`.
    #[track_caller]
    pub fn import(&self, source: &Path, url: &str) {
        self.ok(self.shoal().args(["import", "--quiet"]).arg(source).arg(url));
    }

    /// Number of objects that hold blocks of the volume `name` made by [`Rig::format`].
    pub fn blocks(&self, name: &str) -> u64 {
        self.objects(name).len() as u64
    }

    /// Sizes of these objects, by their paths.
    pub fn objects(&self, name: &str) -> BTreeMap<PathBuf, u64> {
        let mut sizes = BTreeMap::new();
        let mut pending = vec![self.path(format!("{name}-objects")).join(name).join("chunks")];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                // One that is deleted meanwhile is none.
                match entry.metadata() {
                    Ok(found) if found.is_dir() => pending.push(entry.path()),
                    Ok(found) => drop(sizes.insert(entry.path(), found.len())),
                    Err(_) => {}
                }
            }
        }
        sizes
    }
}

/// Runs `command` to its end; panics if it still runs after `limit`: what should be refused may start to serve instead.
#[track_caller]
pub fn output_within(command: &mut Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    let mut ended = false;
    let reader = |stream: Option<Box<dyn Read + Send>>| {
        move || {
            let mut bytes = Vec::new();
            stream.map(|mut stream| stream.read_to_end(&mut bytes));
            bytes
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(reader(stdout.map(|stream| Box::new(stream) as _)));
        let stderr = scope.spawn(reader(stderr.map(|stream| Box::new(stream) as _)));
        let start = clock::now();
        while !ended && start.elapsed() < limit {
            ended = matches!(child.try_wait(), Ok(Some(_)));
            std::thread::park_timeout(Duration::from_millis(10));
        }
        // Its ends of the pipes close with it, and the readers end.
        let _ = child.kill();
        let status = child.wait().expect("a child of ours can be waited for");
        let stdout = stdout.join().expect("the reader does not panic");
        let output = Output { status, stdout, stderr: stderr.join().expect("the reader does not panic") };
        assert!(ended, "{shown} still runs after {limit:?}\n{}", said(&output));
        output
    })
}

/// Both streams of a finished command.
pub fn said(output: &Output) -> String {
    format!("stdout: {}\nstderr: {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
