//! Volumes whose schema an older client made, and rows as the real client leaves them.

use shoal_format::{Ino, SliceRecord, Time};
use shoal_meta::QuotaKind;
use shoal_meta::testing::sample::BatchBuilder;
use shoal_meta_sql::OpenMode;
use shoal_types::ErrorKind;

use super::bed::Bed;

#[tokio::test]
async fn missing_columns_and_tables_read_as_nothing() {
    let bed = Bed::new();
    let meta = bed.volume("old.db").await;
    let f = meta.alloc_inodes(1).await.unwrap().start;
    meta.import(BatchBuilder::new().file(1, b"f", f, 9).build()).await.unwrap();
    let before = meta.getattr(Ino(f)).await.unwrap().unwrap();
    meta.close().await;
    bed.sql(
        "old.db",
        &[
            "ALTER TABLE jfs_node DROP COLUMN tier_id",
            "ALTER TABLE jfs_node DROP COLUMN access_acl_id",
            "ALTER TABLE jfs_node DROP COLUMN default_acl_id",
            "ALTER TABLE jfs_node DROP COLUMN atimensec",
            "ALTER TABLE jfs_node DROP COLUMN mtimensec",
            "ALTER TABLE jfs_node DROP COLUMN ctimensec",
            "UPDATE jfs_node SET rdev=NULL, parent=NULL",
            "DROP TABLE jfs_acl",
            "DROP TABLE jfs_dir_stats",
            "DROP TABLE jfs_dir_quota",
        ],
    )
    .await;

    let engine = shoal_meta_sql::open(&bed.url("old.db"), OpenMode::ReadWrite).await.unwrap();
    let meta = shoal_meta::Meta::new(engine.clone());
    let attr = meta.lookup(Ino::ROOT, b"f").await.unwrap().unwrap().1;
    assert_eq!((attr.length, attr.mode, attr.uid), (before.length, before.mode, before.uid));
    assert_eq!((attr.parent, attr.tier, attr.access_acl), (Ino::NONE, 0, 0));
    assert_eq!((attr.mtime.secs, attr.mtime.nanos), (before.mtime.secs, before.mtime.nanos / 1000 * 1000));
    assert_eq!(engine.records().dir_usage(Ino::ROOT).await.unwrap(), None);
    for kind in [QuotaKind::Dir, QuotaKind::User, QuotaKind::Group] {
        assert_eq!(engine.records().quotas(kind).await.unwrap(), []);
    }
    assert_eq!(engine.records().acl(1).await.unwrap(), None);
    assert_eq!(meta.readdir(Ino::ROOT).await.unwrap().len(), 1);

    let error = meta.mkdir_p(b"/a", Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("older schema"), "{error}");
}

#[tokio::test]
async fn chunk_lists_stored_as_text_read_and_grow() {
    let bed = Bed::new();
    let meta = bed.volume("text.db").await;
    let records: Vec<SliceRecord> =
        (1..4).map(|n| SliceRecord { pos: n, id: 0xFF00 + u64::from(n), size: 200, off: 0, len: 200 }).collect();
    let hex = |record: &SliceRecord| record.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // As the real client does it: `||` makes TEXT of the bytes, NULs included (spec section 22).
    let insert = format!("INSERT INTO jfs_chunk(inode,indx,slices) VALUES(5,0,x'{}')", hex(&records[0]));
    let append = format!("UPDATE jfs_chunk SET slices=slices||x'{}' WHERE inode=5", hex(&records[1]));
    bed.sql("text.db", &[&insert, &append, "CREATE TABLE proof AS SELECT 1/(typeof(slices)='text') FROM jfs_chunk"])
        .await;
    assert_eq!(meta.chunk(Ino(5), 0).await.unwrap(), records[..2]);

    let engine = shoal_meta_sql::open(&bed.url("text.db"), OpenMode::ReadWrite).await.unwrap();
    let txn = engine.begin().await.unwrap();
    let more = shoal_meta::ChunkSlices { ino: Ino(5), index: 0, slices: vec![records[2]] };
    txn.append_slices(&[more]).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(meta.chunk(Ino(5), 0).await.unwrap(), records);
    assert_eq!(meta.chunks(Ino(5), 0..9).await.unwrap()[0].slices, records);
}

#[tokio::test]
async fn times_before_1970_read_as_the_real_client_stores_them() {
    let bed = Bed::new();
    let meta = bed.volume("v.db").await;
    let (dir, _) = meta.mkdir_p(b"/a", Default::default()).await.unwrap();
    // One nanosecond before 999 seconds before 1970, in its truncating division.
    bed.sql("v.db", &["UPDATE jfs_node SET atime=-999000000, atimensec=-1, mtime=-1, mtimensec=0 WHERE inode>1"]).await;
    let attr = meta.getattr(dir).await.unwrap().unwrap();
    assert_eq!(attr.atime, Time { secs: -1000, nanos: 999_999_999 });
    assert_eq!(attr.mtime, Time { secs: -1, nanos: 999_999_000 });
}
