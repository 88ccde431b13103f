//! Connections and servers that go away while they are used.

use std::process::Command;

use shoal_format::{FileType, Ino};
use shoal_meta::testing::sample::{BatchBuilder, attr};
use shoal_meta::{Meta, OpenMode};
use shoal_meta_redis::open;
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, RedisServer, wait_until_async};
use shoal_types::ErrorKind;

use super::volumes::{file, volume};

fn end_connections(server: &RedisServer) {
    server.tell("/0", &["CLIENT", "KILL", "TYPE", "normal"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_connections_are_replaced_where_nothing_can_be_done_twice() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let engine = volume(&server.fresh_url()).await;
    for round in 0..4 {
        end_connections(&server);
        assert!(engine.records().attr(Ino::ROOT).await.unwrap().is_some(), "a read is asked again");
        end_connections(&server);
        file(&engine, 500 + round).await.expect("nothing was asked on the connection that was gone");
        // A transaction lives here, not in the server.
        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(600 + round), attr(FileType::Regular, 0o600))]).await.unwrap();
        end_connections(&server);
        assert!(txn.attrs_locked(&[Ino::ROOT]).await.unwrap()[0].is_some());
        txn.commit().await.unwrap();
    }
    let meta = Meta::new(engine.clone());
    let ino = meta.alloc_inodes(100).await.unwrap().start + 60;
    end_connections(&server);
    meta.import(BatchBuilder::new().file(1, b"f", ino, 0).build()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_is_waited_for() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let engine = volume(&server.fresh_url()).await;
    file(&engine, 50).await.unwrap();
    server.kill();
    let (reader, writer) = (engine.clone(), engine.clone());
    let reading = task::spawn("read", async move { reader.records().attr(Ino(50)).await });
    let writing = task::spawn("write", async move { file(&writer, 51).await });
    let _server = task::blocking("restart", move || {
        server.restart();
        server
    })
    .await;
    assert!(reading.await.unwrap().unwrap().is_some());
    writing.await.unwrap().unwrap();
}

/// Time stands still but for what is waited for, so the wait of a minute takes none.
#[tokio::test]
async fn a_server_that_stays_away_is_an_error_in_the_end() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let engine = volume(&server.fresh_url()).await;
    server.kill();
    tokio::time::pause();
    let start = clock::now();
    let error = engine.records().attr(Ino::ROOT).await.unwrap_err();
    assert!((60..90).contains(&(clock::now() - start).as_secs()), "a minute");
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    assert!(error.to_string().contains(&server.port.to_string()), "{error}");
    assert!(file(&engine, 51).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_is_busy_for_a_moment_is_waited_for() {
    let Some(server) = RedisServer::start(&["--lua-time-limit", "10"]) else { return };
    let engine = volume(&server.fresh_url()).await;
    let mut script = Command::new("redis-cli");
    script.args(["-p", &server.port.to_string(), "EVAL", "while true do end", "0"]);
    let mut script = script.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until_async("the script runs", PATIENCE, async || server.tell("/0", &["PING"]).starts_with("BUSY")).await;
    let (read, written, _) = tokio::join!(engine.records().attr(Ino::ROOT), file(&engine, 50), async {
        tokio::task::yield_now().await;
        server.tell("/0", &["SCRIPT", "KILL"]);
    });
    assert!(read.unwrap().is_some());
    written.unwrap();
    script.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_server_is_a_timeout_and_a_commit_says_what_is_not_known() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let url = server.fresh_url();
    volume(&url).await.close().await;
    let hasty = format!("{url}?read-timeout=300ms&dial-timeout=300ms");
    // While the server speaks, a busy machine may be later than that: until all of it was in time.
    let (engine, txn) = loop {
        let Ok(engine) = open(&hasty, OpenMode::ReadWrite).await else { continue };
        let txn = engine.begin().await.unwrap();
        match txn.attrs_locked(&[Ino::ROOT]).await {
            Ok(found) => {
                assert!(found[0].is_some());
                break (engine, txn);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
        }
    };
    txn.insert_attrs(&[(Ino(50), attr(FileType::Regular, 0o600))]).await.unwrap();
    server.freeze();
    let error = txn.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("may have been made or not"), "{error}");
    let reader = engine.clone();
    let reading = task::spawn("read", async move { reader.records().attr(Ino::ROOT).await });
    server.thaw();
    assert!(reading.await.unwrap().unwrap().is_some(), "what is asked on a new connection waits for it");
    let mut ino = 51;
    wait_until_async("it takes writes", PATIENCE, async || {
        // One that was late may have been made.
        ino += 1;
        file(&engine, ino).await.is_ok()
    })
    .await;
}
