//! A volume mounted for writing, tools to torture it with, and the oracle's word on what they left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shoal_testkit::{have_command, skipped};

use crate::rig::oracle::juicefs;
use crate::rig::{Mount, Rig, output_within, said};

/// Longest run of one tool on a loaded machine.
pub const TOOL_MAX: Duration = Duration::from_secs(600);
/// Name of every volume here.
pub const VOLUME: &str = "posix";
/// Small blocks, so that little data is many of them.
pub const SMALL_BLOCKS: [&str; 2] = ["--block-size", "256K"];

/// A mounted volume.
pub struct Bed {
    pub rig: Rig,
    pub mount: Mount,
    pub url: String,
}

impl Bed {
    /// A fresh volume of small blocks, without a trash, mounted for writing; `None`, and a loud word, where nothing can be mounted.
    pub fn new(name: &str) -> Option<Bed> {
        let rig = Rig::new(name)?;
        let url = rig.url(VOLUME);
        Some(Bed::on(rig, &url, &SMALL_BLOCKS, &[]))
    }

    /// The same with metadata at `url`, and with these flags of `format` and `mount`.
    pub fn on(rig: Rig, url: &str, format: &[&str], mount: &[&str]) -> Bed {
        rig.format_at(url, VOLUME, &[&["--trash-days", "0"], format].concat());
        Bed::of(rig, url, mount)
    }

    /// The volume at `url`, mounted for writing with these further flags.
    pub fn of(rig: Rig, url: &str, flags: &[&str]) -> Bed {
        let mount = rig.mount("mnt", url, &[], &[&["--writable"], flags].concat());
        Bed { rig, mount, url: url.to_owned() }
    }

    /// The volume mounted for writing a second time, on the new directory `name`, with these further flags.
    pub fn mount_again(&self, name: &str, flags: &[&str]) -> Mount {
        self.rig.mount(name, &self.url, &[], &[&["--writable"], flags].concat())
    }

    /// A path in the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mount.point.join(name)
    }

    /// A new directory in the mount.
    pub fn mkdir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Runs a tool; panics with what it said unless it succeeds. Returns its standard output.
    #[track_caller]
    pub fn run(&self, command: &mut Command) -> String {
        self.run_within(command, TOOL_MAX)
    }

    /// The same for one that may take as long as `limit`.
    #[track_caller]
    pub fn run_within(&self, command: &mut Command, limit: Duration) -> String {
        let shown = format!("{command:?}");
        let output = output_within(command, limit);
        assert!(output.status.success(), "{shown} failed\n{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sizes of the objects that hold blocks, by their paths.
    pub fn objects(&self) -> BTreeMap<PathBuf, u64> {
        self.rig.objects(VOLUME)
    }

    /// Unmounts, and has the oracle look for lost blocks and wrong directories. Returns the rig, for who wants to look on.
    #[track_caller]
    pub fn finish(self) -> Rig {
        let Bed { rig, mount, url } = self;
        mount.unmount(&rig);
        if let Some(juicefs) = juicefs() {
            let said = rig.oracle(&juicefs, &["fsck", &url, "--path", "/", "--recursive"]);
            let complaints = said.lines().filter(|line| line.contains("<ERROR>") || line.contains("<FATAL>"));
            assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new(), "fsck complains");
        }
        rig
    }
}

/// A tool that `scripts/install-deps --test` builds: `None`, and a loud word, without it.
pub fn built_tool(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/bin").join(name);
    if path.is_file() {
        return Some(path);
    }
    skipped(&format!("{name} is not installed: scripts/install-deps --test"));
    None
}

/// True if the packaged tool `name` is installed; a loud word otherwise.
pub fn have_tool(name: &str) -> bool {
    let have = have_command(name);
    if !have {
        skipped(&format!("{name} is not installed: scripts/install-deps --test"));
    }
    have
}

/// A file beside this suite.
pub fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/posix").join(name)
}
