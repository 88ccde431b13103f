//! Many writers at once on a server.

use shoal_format::{FileType, Ino};
use shoal_meta::testing::sample::{self, BatchBuilder, attr};
use shoal_meta::{Meta, MetaError};
use shoal_meta_sql::{OpenMode, open};
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, SqlKind, SqlServer};
use shoal_types::ErrorKind;

const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_that_create_a_volume_or_a_name_does() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let url = server.fresh_tables();
        let mut clients = Vec::new();
        for _ in 0..WRITERS {
            clients.push(Meta::new(open(&url, OpenMode::Create).await.unwrap()));
        }
        let making = clients
            .iter()
            .cloned()
            .map(|meta| task::spawn("init", async move { meta.init(&sample::settings(), false).await }));
        let mut made = 0;
        for task in making.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Ok(()) => made += 1,
                Err(error) => assert!(matches!(error, MetaError::VolumeExists { .. }), "{error}"),
            }
        }
        assert_eq!(made, 1, "{kind:?}");

        let ids = clients[0].alloc_inodes(WRITERS as u64).await.unwrap();
        let creating = clients.iter().cloned().zip(ids).map(|(meta, ino)| {
            let batch = BatchBuilder::new().file(1, b"same", ino, 0).build();
            task::spawn("create", async move { meta.import(batch).await })
        });
        let mut made = 0;
        for task in creating.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Ok(()) => made += 1,
                Err(error) => assert_eq!(error.to_string(), "`same` exists already in directory 1"),
            }
        }
        assert_eq!(made, 1, "{kind:?}");
        let fs = clients[0].statfs().await.unwrap();
        assert_eq!(fs.used_inodes, 1, "what lost left nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_directory_lose_nothing() {
    const EACH: usize = 10;
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let url = server.fresh_tables();
        let meta = Meta::new(open(&url, OpenMode::Create).await.unwrap());
        meta.init(&sample::settings(), false).await.unwrap();
        let writing = (0..WRITERS).map(|writer| {
            let meta = meta.clone();
            task::spawn("mkdir", async move {
                for n in 0..EACH {
                    // Directories that everybody makes, and one's own in them.
                    meta.mkdir_p(format!("/shared/{n}/{writer}").as_bytes(), Default::default()).await?;
                }
                Ok::<(), MetaError>(())
            })
        });
        for task in writing.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        let (shared, attr) = meta.resolve_path(b"/shared").await.unwrap().unwrap();
        assert_eq!(attr.nlink as usize, 2 + EACH);
        let below = meta.readdir(shared).await.unwrap();
        assert_eq!(below.len(), EACH);
        assert!(below.iter().all(|entry| entry.attr.as_ref().unwrap().nlink as usize == 2 + WRITERS));
        assert_eq!(meta.statfs().await.unwrap().used_inodes as usize, 1 + EACH + EACH * WRITERS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_wait_for_each_other_one_gives_way() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let engine = open(&server.fresh_tables(), OpenMode::Create).await.unwrap();
        Meta::new(engine.clone()).init(&sample::settings(), false).await.unwrap();
        let txn = engine.begin().await.unwrap();
        let files = [(Ino(50), attr(FileType::Regular, 0o600)), (Ino(51), attr(FileType::Regular, 0o600))];
        txn.insert_attrs(&files).await.unwrap();
        txn.commit().await.unwrap();

        let (one, two) = (engine.begin().await.unwrap(), engine.begin().await.unwrap());
        assert!(one.attrs_locked(&[Ino(50)]).await.unwrap()[0].is_some());
        assert!(two.attrs_locked(&[Ino(51)]).await.unwrap()[0].is_some());
        let (a, b) = tokio::join!(
            async {
                let done = one.attrs_locked(&[Ino(51)]).await;
                (done.is_ok().then_some(one), done)
            },
            async {
                let done = two.attrs_locked(&[Ino(50)]).await;
                (done.is_ok().then_some(two), done)
            },
        );
        let lost = [&a.1, &b.1].into_iter().filter_map(|done| done.as_ref().err()).collect::<Vec<_>>();
        assert!(matches!(lost[..], [MetaError::Contended { .. }]), "{kind:?}: {lost:?}");
        a.0.or(b.0).expect("one goes on").commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_is_waited_for_and_read_anew() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let engine = open(&server.fresh_tables(), OpenMode::Create).await.unwrap();
        let meta = Meta::new(engine.clone());
        meta.init(&sample::settings(), false).await.unwrap();
        let one = engine.begin().await.unwrap();
        let root = one.attrs_locked(&[Ino::ROOT]).await.unwrap()[0].clone().unwrap();
        let waiting = {
            let engine = engine.clone();
            task::spawn("lock", async move {
                let two = engine.begin().await.unwrap();
                // What was read before the lock does not make the later read old.
                assert_eq!(two.attr(Ino::ROOT).await.unwrap().unwrap().mode, 0o777);
                two.attrs_locked(&[Ino::ROOT]).await.unwrap()[0].clone().unwrap()
            })
        };
        // The row is free again only after this commit, however long the other has waited by then.
        one.update_attrs(&[(Ino::ROOT, shoal_format::Attr { mode: 0o711, ..root })]).await.unwrap();
        assert_eq!(meta.getattr(Ino::ROOT).await.unwrap().unwrap().mode, 0o777, "readers wait for nobody");
        let deadline = clock::now() + PATIENCE;
        while !waits_for_lock(server) {
            assert!(clock::now() < deadline, "nobody waits for the row");
            tokio::task::yield_now().await;
        }
        one.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap().mode, 0o711);
    }
}

/// True once a connection waits for a row.
fn waits_for_lock(server: &SqlServer) -> bool {
    let query = match server.kind {
        SqlKind::Postgres => {
            "SELECT 'x' FROM pg_stat_activity WHERE wait_event_type='Lock' AND query LIKE '%FOR UPDATE%'"
        }
        // Its table of transactions is renewed only when nobody has looked for a tenth of a second.
        SqlKind::MariaDb => {
            "SELECT 'x' FROM information_schema.global_status \
             WHERE variable_name='INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value>0"
        }
    };
    !server.tell(&[query]).is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_the_columns_cannot_hold_are_refused() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let engine = open(&server.fresh_tables(), OpenMode::Create).await.unwrap();
        Meta::new(engine.clone()).init(&sample::settings(), false).await.unwrap();
        let txn = engine.begin().await.unwrap();
        let huge = shoal_format::Attr { uid: 4_000_000_000, ..attr(FileType::Regular, 0o600) };
        let error = txn.insert_attrs(&[(Ino(50), huge)]).await.and(txn.commit().await).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
