//! Connections and servers that go away while they are used.

use std::sync::Arc;
use std::time::Duration;

use shoal_format::{FileType, Ino};
use shoal_meta::testing::sample::{self, BatchBuilder, attr};
use shoal_meta::{Engine, Meta, MetaError};
use shoal_meta_sql::{OpenMode, open};
use shoal_runtime::{clock, task};
use shoal_testkit::{SqlKind, SqlServer};
use shoal_types::ErrorKind;

/// A server of the test's own, which ends other people's connections, with a volume.
async fn own(kind: SqlKind) -> Option<(SqlServer, Arc<dyn Engine>)> {
    let server = SqlServer::start(kind)?;
    let engine = open(&server.url(), OpenMode::Create).await.unwrap();
    Meta::new(engine.clone()).init(&sample::settings(), false).await.unwrap();
    Some((server, engine))
}

async fn file(engine: &Arc<dyn Engine>, ino: u64) -> Result<(), MetaError> {
    let txn = engine.begin().await?;
    txn.insert_attrs(&[(Ino(ino), attr(FileType::Regular, 0o600))]).await?;
    txn.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_connections_are_replaced_where_nothing_can_be_done_twice() {
    for kind in SqlKind::ALL {
        let Some((server, engine)) = own(kind).await else { continue };
        server.end_connections();
        assert!(engine.records().attr(Ino::ROOT).await.unwrap().is_some(), "a read is asked again");
        server.end_connections();
        file(&engine, 50).await.expect("nothing was begun on the connection that was gone");

        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(51), attr(FileType::Regular, 0o600))]).await.unwrap();
        txn.write_now().await.unwrap();
        server.end_connections();
        txn.insert_attrs(&[(Ino(52), attr(FileType::Regular, 0o600))]).await.unwrap();
        let error = txn.attr(Ino(52)).await.unwrap_err();
        assert!(matches!(error, MetaError::Contended { .. }), "{error}");
        assert!(matches!(txn.commit().await.unwrap_err(), MetaError::Contended { .. }));
        assert_eq!(engine.records().attrs(&[Ino(51), Ino(52)]).await.unwrap(), [None, None]);

        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(53), attr(FileType::Regular, 0o600))]).await.unwrap();
        txn.write_now().await.unwrap();
        server.end_connections();
        let error = txn.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("may have been made or not"), "{error}");

        server.end_connections();
        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(54), attr(FileType::Regular, 0o600))]).await.unwrap();
        txn.commit().await.expect("nothing was begun on the connection that was gone");
        assert!(engine.records().attr(Ino(54)).await.unwrap().is_some());

        let meta = Meta::new(engine.clone());
        let ino = meta.alloc_inodes(100).await.unwrap().start + 60;
        server.end_connections();
        meta.import(BatchBuilder::new().file(1, b"f", ino, 0).build()).await.unwrap();
    }
}

/// Less than a server is waited for. On a busy machine one may take longer to start, which says nothing.
const WAITED_FOR: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_is_waited_for() {
    for kind in SqlKind::ALL {
        let Some((mut server, engine)) = own(kind).await else { continue };
        file(&engine, 50).await.unwrap();
        for ino in 51.. {
            server.kill();
            let began = clock::now();
            let (reader, writer) = (engine.clone(), engine.clone());
            let reading = task::spawn("read", async move { reader.records().attr(Ino(50)).await });
            let writing = task::spawn("write", async move { file(&writer, ino).await });
            server = task::blocking("restart", move || {
                server.restart();
                server
            })
            .await;
            let took = clock::now() - began;
            let (read, written) = (reading.await.unwrap(), writing.await.unwrap());
            if took < WAITED_FOR {
                assert!(read.unwrap().is_some());
                written.unwrap();
                break;
            }
            assert!(ino < 60, "the server takes {took:?} to start");
        }
    }
}

/// Time stands still but for what is waited for, so the wait of a minute takes none.
#[tokio::test]
async fn a_server_that_stays_away_is_an_error_in_the_end() {
    for kind in SqlKind::ALL {
        let Some((mut server, engine)) = own(kind).await else { continue };
        server.kill();
        tokio::time::pause();
        let start = clock::now();
        let error = engine.records().attr(Ino::ROOT).await.unwrap_err();
        assert!((60..90).contains(&(clock::now() - start).as_secs()), "a minute");
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
        assert!(error.to_string().contains(&server.port.to_string()), "{error}");
        assert!(engine.begin().await.is_err());
        tokio::time::resume();
    }
}

/// Time stands still but for what is waited for, so the wait of 30 seconds takes none.
#[tokio::test]
async fn full_pool_is_an_error_in_the_end_and_a_dropped_transaction_frees_it() {
    for kind in SqlKind::ALL {
        let Some((server, first)) = own(kind).await else { continue };
        first.close().await;
        let engine = open(&format!("{}&max_open_conns=1", server.url()), OpenMode::ReadWrite).await.unwrap();
        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(50), attr(FileType::Regular, 0o600))]).await.unwrap();
        txn.write_now().await.unwrap();
        tokio::time::pause();
        let error = engine.records().attr(Ino(50)).await.unwrap_err();
        tokio::time::resume();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("no connection became free in time; raise max_open_conns"), "{error}");
        drop(txn);
        assert_eq!(engine.records().attr(Ino(50)).await.unwrap(), None, "what was not committed is undone");
    }
}
