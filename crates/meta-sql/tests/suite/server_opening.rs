//! What can be opened on a server, and what a person is told about what cannot.

use std::net::TcpListener;

use shoal_format::Ino;
use shoal_meta::testing::sample;
use shoal_meta::{Meta, MetaError};
use shoal_meta_sql::{OpenMode, open};
use shoal_testkit::{SqlKind, SqlServer, free_port};
use shoal_types::ErrorKind;

async fn refused(url: &str, mode: OpenMode) -> MetaError {
    open(url, mode).await.map(drop).expect_err("cannot be opened")
}

/// A URL with another user, password, place or database than the server's own.
fn url(kind: SqlKind, user: &str, port: u16, database: &str, options: &str) -> String {
    match kind {
        SqlKind::Postgres => format!("postgres://{user}@127.0.0.1:{port}/{database}?{options}"),
        SqlKind::MariaDb => format!("mysql://{user}@(127.0.0.1:{port})/{database}?{options}"),
    }
}

/// How messages name a URL of [`url`] whose user has no password in it.
fn named(url: &str) -> &str {
    url.split_once('?').expect("options").0
}

/// A user with password `right`, who may have one connection.
fn make_user(server: &SqlServer, name: &str) {
    match server.kind {
        SqlKind::Postgres => server.tell(&[&format!("CREATE ROLE {name} LOGIN PASSWORD 'right' CONNECTION LIMIT 1")]),
        SqlKind::MariaDb => server.tell(&[
            &format!("CREATE USER {name} IDENTIFIED BY 'right' WITH MAX_USER_CONNECTIONS 1"),
            &format!("GRANT ALL ON vol.* TO {name}"),
        ]),
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_database_holds_no_volume_and_a_reader_makes_none() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let at = server.fresh_tables();
        for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite] {
            let error = refused(&at, mode).await;
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.to_string(), format!("no volume at {}", named(&at)));
        }
        let meta = Meta::new(open(&at, OpenMode::Create).await.unwrap());
        meta.init(&sample::settings(), false).await.unwrap();
        let reader = Meta::new(open(&at, OpenMode::ReadOnly).await.unwrap());
        assert_eq!(reader.readdir(Ino::ROOT).await.unwrap(), []);
        let error = reader.mkdir_p(b"/a", Default::default()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Denied, format!("{} is open for reading only", named(&at)))
        );
        reader.close().await;
        assert_eq!(reader.getattr(Ino::ROOT).await.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_database_wrong_password_and_full_server_say_what_to_do() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let (root, plain) = match kind {
            SqlKind::Postgres => ("postgres", "sslmode=disable"),
            SqlKind::MariaDb => ("root", "tls=false"),
        };
        let missing = url(kind, root, server.port, "nowhere", plain);
        let error = refused(&missing, OpenMode::Create).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let text = error.to_string();
        assert!(text.contains("nowhere") && text.contains("CREATE DATABASE"), "{text}");

        make_user(server, "reader");
        let wrong = url(kind, "reader:s3cr3t", server.port, "vol", plain);
        let error = refused(&wrong, OpenMode::ReadOnly).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let text = error.to_string();
        assert!(text.contains("META_PASSWORD") && text.contains("reader") && !text.contains("s3cr3t"), "{text}");

        let right = url(kind, "reader:right", server.port, "vol", plain);
        let right = format!("{right}&table_prefix=full");
        // The one connection this user may have is taken, and idle.
        let first = open(&right, OpenMode::Create).await.unwrap();
        let error = refused(&right, OpenMode::ReadOnly).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("max_open_conns"), "{error}");
        first.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_is_not_there_silent_or_without_tls_is_named() {
    let free = free_port();
    // Takes connections, by its backlog, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (kind, wait) in [(SqlKind::Postgres, "connect_timeout=1"), (SqlKind::MariaDb, "timeout=200ms")] {
        let away = url(kind, "u:s3cr3t", free, "vol", "");
        let error = refused(&away, OpenMode::ReadOnly).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(&free.to_string()) && !error.to_string().contains("s3cr3t"), "{error}");

        let mute = url(kind, "u", silent.local_addr().unwrap().port(), "vol", wait);
        let error = refused(&mute, OpenMode::ReadOnly).await;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("did not answer a new connection"), "{error}");
    }
    for (kind, user, tls) in
        [(SqlKind::Postgres, "postgres", "sslmode=require"), (SqlKind::MariaDb, "root", "tls=true")]
    {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let error = refused(&url(kind, user, server.port, "vol", tls), OpenMode::ReadOnly).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_and_schemas_lead_to_the_same_server() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let dir = server.socket_dir();
        let (socket, tcp) = match kind {
            SqlKind::Postgres => {
                server.tell(&["CREATE SCHEMA other"]);
                let options = format!("port={}&search_path=other", server.port);
                let tcp = format!("{}&search_path=other", server.url());
                (format!("postgres://postgres@/vol?host={}&{options}", dir.display()), tcp)
            }
            SqlKind::MariaDb => {
                let tcp = format!("{}&table_prefix=sock", server.url());
                (format!("mysql://root@unix({}/s)/vol?table_prefix=sock", dir.display()), tcp)
            }
        };
        let meta = Meta::new(open(&socket, OpenMode::Create).await.unwrap());
        meta.init(&sample::settings(), false).await.unwrap();
        meta.mkdir_p(b"/by/socket", Default::default()).await.unwrap();
        let other = Meta::new(open(&tcp, OpenMode::ReadOnly).await.unwrap());
        assert!(other.resolve_path(b"/by/socket").await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_of_older_clients_read_and_writers_are_told_to_renew_them() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let at = format!("{}&table_prefix=old", server.url());
        let meta = Meta::new(open(&at, OpenMode::Create).await.unwrap());
        meta.init(&sample::settings(), false).await.unwrap();
        let (dir, attr) = meta.mkdir_p(b"/a", Default::default()).await.unwrap();
        server.tell(&["ALTER TABLE jfs_old_node DROP COLUMN tier_id", "DROP TABLE jfs_old_acl"]);
        let reader = open(&at, OpenMode::ReadOnly).await.unwrap();
        assert_eq!(reader.records().attr(dir).await.unwrap(), Some(attr));
        assert_eq!(reader.records().acl(1).await.unwrap(), None);
        let error = refused(&at, OpenMode::ReadWrite).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("older schema (no table jfs_old_acl)"), "{error}");
    }
}
