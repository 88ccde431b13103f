//! The suite that every engine passes.

use shoal_meta::testing::conformance;

use super::bed::Bed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let bed = Bed::new();
    conformance(|| bed.fresh()).await;
}
