//! One rig with both clients, and the ways a volume can be made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use shoal_meta::Engine;
use shoal_meta_sql::OpenMode;
use shoal_runtime::clock;
use shoal_testkit::{Snapshot, have_command, snapshot};

use crate::rig::oracle::{OracleMount, juicefs};
use crate::rig::{EngineKind, Mount, Rig};

/// Name of every volume here.
pub const VOLUME: &str = "interop";

/// How old objects are made before `gc` looks: it passes over those younger than an hour.
const AGED: Duration = Duration::from_secs(3 * 3600);

/// Both clients.
pub struct Pair {
    pub rig: Rig,
    pub juicefs: PathBuf,
    /// The metadata URL of the volume.
    url: String,
}

/// How a volume keeps its objects.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// `none`, `lz4` or `zstd`.
    pub compress: &'static str,
    /// `aes256gcm-rsa` or `chacha20-rsa`; objects are not encrypted without one.
    pub cipher: Option<&'static str>,
    pub keys: Keys,
    /// Such as `64K`.
    pub block_size: &'static str,
}

/// How the objects' keys are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Plain,
    HashPrefix,
    Shards,
}

/// Every layout of keys.
pub const ALL_KEYS: [Keys; 3] = [Keys::Plain, Keys::HashPrefix, Keys::Shards];

impl Pair {
    /// A rig and the oracle, with metadata in SQLite; `None`, and a loud word, where one of them cannot be.
    pub fn new(name: &str) -> Option<Pair> {
        Pair::on(EngineKind::Sqlite, name)
    }

    /// The same with metadata in `kind`.
    pub fn on(kind: EngineKind, name: &str) -> Option<Pair> {
        let (juicefs, rig) = (juicefs()?, Rig::new(name)?);
        let url = rig.fresh_url(kind, VOLUME)?;
        Some(Pair { rig, juicefs, url })
    }

    /// The same with metadata at `url`.
    pub fn at(name: &str, url: String) -> Option<Pair> {
        Some(Pair { url, ..Pair::new(name)? })
    }

    /// URL of an empty database of `kind`; `None`, and a loud word, where there is no such server.
    pub fn fresh_url(&self, kind: EngineKind, name: &str) -> Option<String> {
        self.rig.fresh_url(kind, name)
    }

    /// The metadata URL of the volume.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The directory of its objects; with shards, one of several that begin so.
    pub fn objects(&self) -> PathBuf {
        self.rig.path("objects")
    }

    /// The arguments of `format`, the same for both clients.
    fn format_words(&self, recipe: &Recipe) -> Vec<String> {
        let mut words = vec!["format".to_owned(), self.url(), VOLUME.to_owned()];
        let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
        let shard = if recipe.keys == Keys::Shards { "-%d" } else { "" };
        flag("--bucket", &format!("{}{shard}", self.objects().display()));
        flag("--compress", recipe.compress);
        flag("--block-size", recipe.block_size);
        if let Some(cipher) = recipe.cipher {
            flag("--encrypt-algo", cipher);
            flag("--encrypt-rsa-key", &self.private_key().display().to_string());
        }
        match recipe.keys {
            Keys::Plain => {}
            Keys::HashPrefix => words.push("--hash-prefix".to_owned()),
            Keys::Shards => words.extend(["--shards".to_owned(), "3".to_owned()]),
        }
        words
    }

    /// Makes the volume with JuiceFS.
    #[track_caller]
    pub fn juicefs_formats(&self, recipe: &Recipe, more: &[&str]) {
        let words = self.format_words(recipe);
        self.juicefs(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>());
    }

    /// Makes the volume with ours.
    #[track_caller]
    pub fn shoal_formats(&self, recipe: &Recipe, more: &[&str]) {
        self.rig.ok(self.rig.shoal().args(self.format_words(recipe)).args(more));
    }

    /// A private key of this rig: a new one where openssl is, the repository's otherwise.
    fn private_key(&self) -> PathBuf {
        let path = self.rig.path("volume.pem");
        if path.exists() {
            return path;
        }
        if have_command("openssl") {
            self.rig.ok(Command::new("openssl").args(["genrsa", "-out"]).arg(&path).arg("2048"));
            return path;
        }
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/format/tests/golden/keys/pkcs8.pem")
    }

    /// Runs a command of JuiceFS that must succeed; returns what it said.
    #[track_caller]
    pub fn juicefs(&self, words: &[&str]) -> String {
        self.rig.oracle(&self.juicefs, words)
    }

    /// The volume mounted by JuiceFS.
    #[track_caller]
    pub fn juicefs_mount(&self, name: &str, flags: &[&str]) -> OracleMount {
        self.rig.oracle_mount(&self.juicefs, name, &self.url(), flags)
    }

    /// The volume mounted by ours, without a ring.
    #[track_caller]
    pub fn shoal_mount(&self, name: &str, flags: &[&str]) -> Mount {
        self.rig.mount(name, &self.url(), &[], flags)
    }

    /// Asserts that `fsck` finds nothing: neither lost blocks nor wrong directories, link counts or usage.
    #[track_caller]
    pub fn assert_fsck_is_clean(&self) {
        let url = self.url();
        for words in [&["fsck", &url][..], &["fsck", &url, "--path", "/", "--recursive"]] {
            let said = self.juicefs(words);
            let complaints: Vec<&str> = said.lines().filter(|line| is_complaint(line)).collect();
            assert!(complaints.is_empty(), "{words:?} complains:\n{}", complaints.join("\n"));
            assert!(said.contains("Used by"), "{words:?} looked at the blocks:\n{said}");
        }
    }

    /// Asserts that `gc` finds no object that no file uses, all objects being old enough to be looked at.
    #[track_caller]
    pub fn assert_gc_is_clean(&self) {
        self.age_objects();
        // Its debug log names the objects.
        let said = self.juicefs(&["gc", &self.url(), "--verbose"]);
        assert!(said.contains(" 0 leaked (0 bytes)") && said.contains(" 0 skipped (0 bytes)"), "gc finds:\n{said}");
    }

    /// Makes every object look as if it had been stored hours ago.
    pub fn age_objects(&self) {
        let then = UNIX_EPOCH + clock::unix_now() - AGED;
        let begin = self.objects().file_name().unwrap().to_owned();
        let begins = |name: &std::ffi::OsStr| name.to_str().unwrap().starts_with(begin.to_str().unwrap());
        let roots = std::fs::read_dir(self.rig.path("")).unwrap().flatten().filter(|entry| begins(&entry.file_name()));
        let mut pending: Vec<PathBuf> = roots.map(|entry| entry.path()).collect();
        // What a client deletes meanwhile is passed over.
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            } else if let Ok(object) = std::fs::File::options().write(true).open(&path) {
                object.set_modified(then).unwrap();
            }
        }
    }
}

/// Whether a log line of JuiceFS says that something is wrong with the volume.
fn is_complaint(line: &str) -> bool {
    let harmless = ["Set storage tier: not supported", "The latency to database is too high"];
    let loud = ["<WARNING>", "<ERROR>", "<FATAL>"].iter().any(|level| line.contains(level));
    loud && !harmless.iter().any(|text| line.contains(text))
}

/// Everything that can be seen below `root`.
#[track_caller]
pub fn look(root: &Path) -> Snapshot {
    snapshot(root).unwrap_or_else(|error| panic!("cannot read {}: {error}", root.display()))
}

/// The text of the setting in the database at `url`.
pub fn setting_text(url: &str) -> String {
    with_engine(url, OpenMode::ReadOnly, async |engine| engine.records().setting().await.unwrap().expect("a setting"))
}

/// Rewrites the text of the setting in the database at `url`.
pub fn edit_setting(url: &str, edit: impl Fn(&str) -> String) {
    let text = setting_text(url);
    let edited = edit(&text);
    assert_ne!(edited, text, "the edit changes something");
    with_engine(url, OpenMode::ReadWrite, async |engine| {
        let txn = engine.begin().await.unwrap();
        txn.put_setting(&edited).await.unwrap();
        txn.commit().await.unwrap();
    });
}

/// Does `work` to the records of the volume at `url`.
pub fn with_volume(url: &str, work: impl AsyncFnOnce(&dyn Engine)) {
    with_engine(url, OpenMode::ReadWrite, work);
}

fn with_engine<T>(url: &str, mode: OpenMode, work: impl AsyncFnOnce(&dyn Engine) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = shoal_meta_sql::open(url, mode).await.unwrap();
        let result = work(&*engine).await;
        engine.close().await;
        result
    })
}
