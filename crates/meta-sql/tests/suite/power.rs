//! A loss of power under a SQLite database.

use std::path::Path;

use shoal_format::{FileType, Ino};
use shoal_meta::Meta;
use shoal_meta::testing::sample::{attr, settings};
use shoal_meta_sql::{OpenMode, open};
use shoal_testkit::Disk;

fn url(root: &Path) -> String {
    format!("sqlite3://{}", root.join("v.db").display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_synced_outlives_a_loss_of_power() {
    let Some(disk) = Disk::new() else { return };
    let url = url(&disk.root());
    let engine = open(&url, OpenMode::Create).await.unwrap();
    let meta = Meta::new(engine.clone());
    meta.init(&settings(), false).await.unwrap();
    let create = async |ino: u64| {
        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(ino), attr(FileType::Regular, 0o600))]).await.unwrap();
        txn.commit().await.unwrap();
    };
    create(50).await;
    meta.sync().await.unwrap();
    // Long enough for the log to be copied into the database and begun anew.
    for ino in 100..3000 {
        create(ino).await;
    }
    meta.sync().await.unwrap();
    create(60).await;
    disk.lose_power();
    meta.close().await;
    drop((meta, engine));
    disk.unmount();
    disk.mount();

    let engine = open(&url, OpenMode::ReadWrite).await.unwrap();
    let inos: Vec<Ino> = std::iter::once(50).chain(100..3000).map(Ino).collect();
    let found = engine.records().attrs(&inos).await.unwrap();
    let lost = inos.iter().zip(&found).filter(|(_, attr)| attr.is_none()).count();
    assert_eq!(lost, 0, "of {} synced inodes", inos.len());
    engine.close().await;
    disk.unmount();
}
