//! The suite that every engine passes.

use shoal_meta::testing::conformance;
use shoal_meta_sql::{OpenMode, open};
use shoal_testkit::{SqlKind, SqlServer};

use super::bed::Bed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let bed = Bed::new();
    conformance(|| bed.fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    server_conforms(SqlKind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_conforms() {
    server_conforms(SqlKind::MariaDb).await;
}

async fn server_conforms(kind: SqlKind) {
    let Some(server) = SqlServer::shared(kind) else { return };
    let url = server.fresh_tables();
    // Tables are made once: that takes these servers longer than a case does.
    conformance(|| async {
        server.empty_tables(&url);
        open(&url, OpenMode::Create).await.expect("empty tables")
    })
    .await;
}
