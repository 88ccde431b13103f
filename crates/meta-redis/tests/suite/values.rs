//! What keys hold: numbers at the edges, damage, and scripts that somebody flushed.

use shoal_format::{Dentry, FileType, Ino};
use shoal_meta::testing::sample::attr;
use shoal_meta::{Counter, NewDentry, QuotaKind};
use shoal_testkit::RedisServer;
use shoal_types::ErrorKind;

use super::volumes::{file, volume};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_every_inode_number_are_looked_up() {
    let Some(server) = RedisServer::shared() else { return };
    let engine = volume(&server.fresh_url()).await;
    let numbers = [
        2,
        999_999,
        1_000_000,
        1_000_001,
        4_294_967_295,
        4_294_967_296,
        (1 << 53) + 1,
        Ino::TRASH.0 + 1,
        i64::MAX as u64,
        u64::MAX,
    ];
    let txn = engine.begin().await.unwrap();
    for number in numbers {
        let dentry = Dentry { kind: FileType::Regular, ino: Ino(number) };
        let name = number.to_string().into();
        txn.insert_dentries(&[NewDentry { parent: Ino::ROOT, name, dentry }]).await.unwrap();
        txn.insert_attrs(&[(Ino(number), attr(FileType::Regular, (number % 0o777) as u16))]).await.unwrap();
    }
    txn.commit().await.unwrap();
    for number in numbers {
        let entry = engine.records().entry(Ino::ROOT, number.to_string().as_bytes()).await.unwrap().unwrap();
        assert_eq!((entry.dentry.ino, entry.attr.map(|attr| attr.mode)), (Ino(number), Some((number % 0o777) as u16)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_scripts_are_loaded_again() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let url = server.fresh_url();
    let engine = volume(&url).await;
    for ino in 50..53 {
        server.tell(&url, &["SCRIPT", "FLUSH"]);
        assert!(engine.records().entry(Ino::ROOT, b"none").await.unwrap().is_none());
        server.tell(&url, &["SCRIPT", "FLUSH"]);
        file(&engine, ino).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_values_are_named() {
    let Some(server) = RedisServer::shared() else { return };
    let url = server.fresh_url();
    let engine = volume(&url).await;
    let records = engine.records();
    server.tell(&url, &["SET", "i50", "short"]);
    server.tell(&url, &["HSET", "d1", "x", "nonsense!!"]);
    server.tell(&url, &["SET", "usedSpace", "plenty"]);
    server.tell(&url, &["RPUSH", "c50_0", "123"]);
    server.tell(&url, &["ZADD", "delfiles", "1", "5"]);
    server.tell(&url, &["HSET", "dirQuota", "1", "123"]);
    server.tell(&url, &["SADD", "i51", "not a string"]);
    let kinds = [
        records.attr(Ino(50)).await.map(drop),
        records.entry(Ino::ROOT, b"x").await.map(drop),
        records.entries(Ino::ROOT, b"", 9).await.map(drop),
        records.counter(Counter::UsedSpace).await.map(drop),
        records.slices(Ino(50), 0).await.map(drop),
        records.deleted_files(9, 9).await.map(drop),
        records.quotas(QuotaKind::Dir).await.map(drop),
    ];
    for (nth, damaged) in kinds.into_iter().enumerate() {
        let error = damaged.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{nth}: {error}");
    }
    assert_eq!(records.attr(Ino(51)).await.unwrap(), None, "MGET passes other types over");
}
