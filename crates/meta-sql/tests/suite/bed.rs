//! A directory with databases, gone with the test.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shoal_meta::testing::sample;
use shoal_meta::{Engine, Meta};
use shoal_meta_sql::{OpenMode, open};
use tempfile::TempDir;

pub struct Bed {
    pub dir: TempDir,
    made: AtomicU32,
}

impl Bed {
    pub fn new() -> Bed {
        Bed { dir: TempDir::new().expect("a temporary directory"), made: AtomicU32::new(0) }
    }

    /// Path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Metadata URL of a file in the directory.
    pub fn url(&self, name: &str) -> String {
        format!("sqlite3://{}", self.path(name).display())
    }

    /// An empty database.
    pub async fn fresh(&self) -> Arc<dyn Engine> {
        let name = format!("{}.db", self.made.fetch_add(1, Ordering::Relaxed));
        open(&self.url(&name), OpenMode::Create).await.expect("a new database")
    }

    /// A database with an empty volume named `conform`.
    pub async fn volume(&self, name: &str) -> Meta {
        let meta = Meta::new(open(&self.url(name), OpenMode::Create).await.expect("a new database"));
        meta.init(&sample::settings(), false).await.expect("a new volume");
        meta
    }

    /// Opens what is there.
    pub async fn open(&self, name: &str, mode: OpenMode) -> Meta {
        Meta::new(open(&self.url(name), mode).await.expect("an existing volume"))
    }

    /// Runs SQL on a database as some other program would.
    pub async fn sql(&self, name: &str, statements: &[&str]) {
        let connection = self.other_program(name);
        for statement in statements {
            connection.execute_batch(statement).expect("a statement");
        }
    }

    /// Some other program's connection to a database.
    pub fn other_program(&self, name: &str) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path(name)).expect("a connection")
    }
}
