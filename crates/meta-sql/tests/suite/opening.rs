//! What can be opened, and what a person is told about what cannot.

use shoal_format::Ino;
use shoal_meta::testing::sample;
use shoal_meta::{Meta, MetaError};
use shoal_meta_sql::{OpenMode, open};
use shoal_types::ErrorKind;

use super::bed::Bed;

const EXISTING: [OpenMode; 2] = [OpenMode::ReadOnly, OpenMode::ReadWrite];

async fn refused(url: &str, mode: OpenMode) -> MetaError {
    open(url, mode).await.map(drop).expect_err("cannot be opened")
}

#[tokio::test]
async fn missing_database_is_not_created() {
    let bed = Bed::new();
    for mode in EXISTING {
        let error = refused(&bed.url("none.db"), mode).await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("no database at {}", bed.path("none.db").display()));
    }
    assert_eq!(std::fs::read_dir(bed.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn database_without_tables_holds_no_volume() {
    let bed = Bed::new();
    bed.sql("other.db", &["CREATE TABLE t(a)"]).await;
    std::fs::write(bed.path("empty.db"), b"").unwrap();
    for name in ["other.db", "empty.db"] {
        for mode in EXISTING {
            let error = refused(&bed.url(name), mode).await;
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.to_string(), format!("no volume at {}", bed.url(name)));
        }
    }
    assert_eq!(std::fs::metadata(bed.path("empty.db")).unwrap().len(), 0);
}

#[tokio::test]
async fn tables_of_another_prefix_are_another_volume() {
    let bed = Bed::new();
    let url = bed.url("two.db");
    for prefix in ["a", "b"] {
        let meta = Meta::new(open(&format!("{url}?table_prefix={prefix}"), OpenMode::Create).await.unwrap());
        meta.init(&sample::settings(), false).await.unwrap();
        meta.mkdir_p(prefix.as_bytes(), Default::default()).await.unwrap();
    }
    let meta = Meta::new(open(&format!("{url}?table_prefix=b"), OpenMode::ReadOnly).await.unwrap());
    let names: Vec<_> = meta.readdir(Ino::ROOT).await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["b"]);
    assert_eq!(refused(&url, OpenMode::ReadOnly).await.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn file_that_is_no_database_is_corrupt() {
    let bed = Bed::new();
    std::fs::write(bed.path("text.db"), "not a database, but long enough for a header\n".repeat(100)).unwrap();
    for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite, OpenMode::Create] {
        let error = refused(&bed.url("text.db"), mode).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = format!("metadata database {} is damaged: the file is no SQLite database", bed.url("text.db"));
        assert_eq!(error.to_string(), text);
    }
    std::fs::create_dir(bed.path("dir")).unwrap();
    assert_eq!(refused(&bed.url("dir"), OpenMode::ReadOnly).await.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn damaged_pages_are_corrupt_in_one_sentence() {
    let bed = Bed::new();
    let meta = bed.volume("good.db").await;
    meta.mkdir_p(b"/a/b/c", Default::default()).await.unwrap();
    meta.close().await;
    let good = std::fs::read(bed.path("good.db")).unwrap();
    let mut found = 0;
    for page in 1..good.len() / 4096 {
        let mut bytes = good.clone();
        bytes[page * 4096..(page + 1) * 4096].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n % 251) as u8);
        std::fs::write(bed.path("bad.db"), bytes).unwrap();
        let Err(error) = read_everything(&bed).await else { continue };
        found += 1;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "page {page}: {error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("metadata database {} is damaged: ", bed.url("bad.db"))), "{text}");
        assert_eq!(text.matches("damaged").count(), 1, "{text}");
    }
    assert!(found >= 4, "only {found} damaged pages were noticed: setting, nodes, edges and schema are read");
}

async fn read_everything(bed: &Bed) -> Result<(), MetaError> {
    let meta = Meta::new(open(&bed.url("bad.db"), OpenMode::ReadOnly).await?);
    let read = async {
        meta.settings().await?;
        meta.statfs().await?;
        meta.readdir(Ino::ROOT).await?;
        meta.resolve_path(b"/a/b/c").await?;
        meta.getxattr(Ino(2), b"user.a").await?;
        meta.chunk(Ino(2), 0).await.map(drop)
    };
    let done = read.await;
    meta.close().await;
    done
}

#[tokio::test]
async fn impossible_columns_are_corrupt() {
    let bed = Bed::new();
    let meta = bed.volume("odd.db").await;
    let (dir, _) = meta.mkdir_p(b"/a", Default::default()).await.unwrap();
    for (statement, what) in [
        ("UPDATE jfs_node SET type=9 WHERE inode>1", "column type holds 9"),
        ("UPDATE jfs_node SET type=2, uid=-1 WHERE inode>1", "column uid holds -1"),
        ("UPDATE jfs_node SET uid=0, length='many' WHERE inode>1", "column"),
    ] {
        bed.sql("odd.db", &[statement]).await;
        let error = meta.getattr(dir).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    bed.sql("odd.db", &["INSERT INTO jfs_chunk(inode,indx,slices) VALUES(77,0,x'00')"]).await;
    assert_eq!(meta.chunk(Ino(77), 0).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn reader_cannot_write() {
    let bed = Bed::new();
    bed.volume("v.db").await.close().await;
    let meta = bed.open("v.db", OpenMode::ReadOnly).await;
    let error = meta.mkdir_p(b"/a", Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.to_string(), format!("{} is open for reading only", bed.url("v.db")));
}

#[tokio::test]
async fn closed_database_says_so() {
    let bed = Bed::new();
    let meta = bed.volume("v.db").await;
    meta.close().await;
    assert_eq!(meta.getattr(Ino::ROOT).await.unwrap_err().kind(), ErrorKind::Cancelled);
}
