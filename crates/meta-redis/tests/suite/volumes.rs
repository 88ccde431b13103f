//! Volumes for tests.

use std::sync::Arc;

use shoal_format::{Attr, Dentry, FileType, Ino};
use shoal_meta::testing::sample::{attr, settings};
use shoal_meta::{Engine, Meta, MetaError, NewDentry, OpenMode};
use shoal_meta_redis::open;

/// An engine on a new volume in an empty database.
pub async fn volume(url: &str) -> Arc<dyn Engine> {
    let engine = open(url, OpenMode::Create).await.unwrap();
    Meta::new(engine.clone()).init(&settings(), false).await.unwrap();
    engine
}

/// Writes an inode, without having read anything.
pub async fn file(engine: &Arc<dyn Engine>, ino: u64) -> Result<(), MetaError> {
    let txn = engine.begin().await?;
    txn.insert_attrs(&[(Ino(ino), attr(FileType::Regular, 0o600))]).await?;
    txn.commit().await
}

/// A directory with this inode below the root.
pub fn dir(ino: u64) -> (NewDentry, (Ino, Attr)) {
    let dentry = Dentry { kind: FileType::Directory, ino: Ino(ino) };
    let name = ino.to_string().into();
    (NewDentry { parent: Ino::ROOT, name, dentry }, (Ino(ino), attr(FileType::Directory, 0o755)))
}
