//! The suite that every engine passes.

use shoal_meta::testing::conformance;
use shoal_meta_sql::{OpenMode, open};

use super::bed::Bed;
use super::servers::{Kind, shared};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let bed = Bed::new();
    conformance(|| bed.fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    server_conforms(Kind::Postgres, "postgres_conforms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_conforms() {
    server_conforms(Kind::MariaDb, "mysql_conforms").await;
}

async fn server_conforms(kind: Kind, test: &str) {
    let Some(server) = shared(kind, test).await else { return };
    let url = server.fresh_url();
    // Tables are made once: that takes these servers longer than a case does.
    conformance(|| async {
        server.empty_tables(&url).await;
        open(&url, OpenMode::Create).await.expect("empty tables")
    })
    .await;
}
