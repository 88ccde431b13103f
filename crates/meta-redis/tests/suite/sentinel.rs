//! Sentinels: the master they name is used, and the one they name after it.

use std::process::Command;

use shoal_format::Ino;
use shoal_meta::{Meta, OpenMode};
use shoal_meta_redis::open;
use shoal_testkit::{ChildGuard, PATIENCE, RedisServer, TestDir, free_port, have_command, skipped, wait_until_async};
use shoal_types::ErrorKind;

use super::volumes::volume;

/// A sentinel that watches the master on `port` under the name `vol`. So patient that it takes no busy machine for a dead master: what
/// was not replicated yet would be lost.
fn sentinel(dir: &TestDir, port: u16) -> Option<(ChildGuard, u16)> {
    if !have_command("redis-sentinel") {
        skipped("redis-sentinel is not installed: scripts/install-deps --test");
        return None;
    }
    let own = free_port();
    let config = format!(
        "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor vol 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds vol 4000\nsentinel failover-timeout vol 5000\n",
        dir.join("").display()
    );
    std::fs::write(dir.join("sentinel.conf"), config).unwrap();
    let child = ChildGuard::spawn("sentinel", Command::new("redis-sentinel").arg(dir.join("sentinel.conf")));
    child.wait_for_line("monitor", PATIENCE, |line| line.contains("+monitor master vol").then_some(()));
    Some((child, own))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volume_goes_on_where_the_sentinel_says() {
    let Some(mut master) = RedisServer::start(&[]) else { return };
    let of = ["127.0.0.1".to_owned(), master.port.to_string()].join(" ");
    let Some(replica) = RedisServer::start(&["--replicaof", &of]) else { return };
    let dir = TestDir::new("sentinel");
    let Some((_sentinel, port)) = sentinel(&dir, master.port) else { return };
    let url = |name: &str| format!("redis://{name},127.0.0.1:{}/2", port);
    let error = open(&url("nobody"), OpenMode::ReadOnly).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("knows no master `nobody`"), "{error}");

    let engine = volume(&url("vol")).await;
    let meta = Meta::new(engine.clone());
    let (ino, _) = meta.mkdir_p(b"/before", Default::default()).await.unwrap();
    wait_until_async("the replica has it", PATIENCE, async || {
        replica.tell("/2", &["EXISTS", &format!("i{ino}")]) == "1"
    })
    .await;
    // A sentinel learns of replicas by asking the master every ten seconds.
    wait_until_async("the sentinel knows the replica", PATIENCE, async || {
        let asked = Command::new("redis-cli").args(["-p", &port.to_string(), "SENTINEL", "replicas", "vol"]).output();
        String::from_utf8_lossy(&asked.unwrap().stdout).contains(&replica.port.to_string())
    })
    .await;
    master.kill();
    wait_until_async("the replica takes over", PATIENCE, async || {
        meta.mkdir_p(b"/after", Default::default()).await.is_ok()
    })
    .await;
    assert!(meta.resolve_path(b"/before").await.unwrap().is_some());
    assert_eq!(replica.tell("/2", &["EXISTS", "setting"]), "1");
    assert!(engine.records().attr(Ino::ROOT).await.unwrap().is_some());
}
