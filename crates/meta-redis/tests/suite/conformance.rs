//! The suite that every engine passes.

use shoal_meta::OpenMode;
use shoal_meta::testing::conformance;
use shoal_meta_redis::open;
use shoal_testkit::RedisServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms() {
    let Some(server) = RedisServer::shared() else { return };
    let url = server.fresh_url();
    conformance(|| async {
        server.tell(&url, &["FLUSHDB"]);
        open(&url, OpenMode::Create).await.expect("an empty database")
    })
    .await;
}
