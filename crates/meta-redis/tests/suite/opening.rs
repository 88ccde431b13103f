//! What can be opened, and what a person is told about what cannot.

use shoal_format::{FileType, Ino};
use shoal_meta::testing::sample::{attr, settings};
use shoal_meta::{Meta, MetaError, OpenMode};
use shoal_meta_redis::open;
use shoal_testkit::{RedisServer, free_port};
use shoal_types::ErrorKind;

use super::volumes::volume;

async fn refused(url: &str, mode: OpenMode) -> MetaError {
    open(url, mode).await.map(drop).expect_err("cannot be opened")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_database_holds_no_volume_and_a_reader_makes_none() {
    let Some(server) = RedisServer::shared() else { return };
    let url = server.fresh_url();
    for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite] {
        let error = refused(&url, mode).await;
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, format!("no volume at {url}")));
    }
    volume(&url).await.close().await;
    let reader =
        Meta::new(open(&format!("{url}?route-read=replica&read-timeout=5s"), OpenMode::ReadOnly).await.unwrap());
    assert_eq!(reader.readdir(Ino::ROOT).await.unwrap(), []);
    let error = reader.mkdir_p(b"/a", Default::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Denied, format!("{url} is open for reading only")));
    reader.close().await;
    assert_eq!(reader.getattr(Ino::ROOT).await.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_one_server_and_its_socket_are_told_apart() {
    let Some(server) = RedisServer::shared() else { return };
    let (one, other) = (server.fresh_url(), server.fresh_url());
    let meta = Meta::new(volume(&one).await);
    meta.mkdir_p(b"/here", Default::default()).await.unwrap();
    assert_eq!(refused(&other, OpenMode::ReadOnly).await.kind(), ErrorKind::NotFound);
    let db = one.rsplit('/').next().unwrap();
    let socket =
        Meta::new(open(&format!("unix://{}?db={db}", server.socket().display()), OpenMode::ReadOnly).await.unwrap());
    assert!(socket.resolve_path(b"/here").await.unwrap().is_some());
    let error = refused(&format!("redis://127.0.0.1:{}/1000", server.port), OpenMode::Create).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_wrong_password_and_full_server_say_what_to_do() {
    let nobody = format!("redis://127.0.0.1:{}/1", free_port());
    let error = refused(&nobody, OpenMode::ReadOnly).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&nobody), "{error}");
    let error = refused("unix:///no/such/socket", OpenMode::ReadOnly).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    let Some(server) = RedisServer::start(&["--requirepass", "right"]) else { return };
    let at = format!("127.0.0.1:{}/3", server.port);
    for wrong in [format!("redis://:s3cr3t@{at}"), format!("redis://somebody:s3cr3t@{at}")] {
        let error = refused(&wrong, OpenMode::Create).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let text = error.to_string();
        assert!(text.contains("META_PASSWORD") && text.contains(&at) && !text.contains("s3cr3t"), "{text}");
    }
    let engine = open(&format!("redis://:right@{at}"), OpenMode::Create).await.unwrap();
    let meta = Meta::new(engine.clone());
    meta.init(&settings(), false).await.unwrap();
    let said = server.tell("/0", &["-a", "right", "--no-auth-warning", "CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(said, "OK");
    let txn = engine.begin().await.unwrap();
    txn.insert_attrs(&[(Ino(77), attr(FileType::Regular, 0o600))]).await.unwrap();
    let error = txn.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert_eq!(meta.getattr(Ino(77)).await.unwrap(), None);
}
