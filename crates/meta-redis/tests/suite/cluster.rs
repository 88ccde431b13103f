//! A cluster of three servers: the volume lies on one of them, whichever is asked.

use std::process::{Command, Stdio};

use shoal_format::Ino;
use shoal_meta::testing::{conformance, sample};
use shoal_meta::{Meta, OpenMode};
use shoal_meta_redis::open;
use shoal_testkit::{PATIENCE, RedisServer, free_port, wait_until};

/// Three members that have found each other.
fn cluster() -> Option<Vec<RedisServer>> {
    let member = || {
        let bus = free_port().to_string();
        RedisServer::start(&["--cluster-enabled", "yes", "--databases", "1", "--cluster-port", &bus])
    };
    let members: Vec<RedisServer> = (0..3).map_while(|_| member()).collect();
    if members.len() < 3 {
        return None;
    }
    let places = members.iter().map(|member| format!("127.0.0.1:{}", member.port));
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create", "--cluster-yes"]).args(places).stdin(Stdio::null());
    let output = create.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for member in &members {
        wait_until("the cluster works", PATIENCE, || {
            member.tell("/0", &["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
    }
    Some(members)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_lies_on_one_member_and_is_found_from_each() {
    let Some(members) = cluster() else { return };
    let all = members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect::<Vec<_>>().join(",");
    let meta = Meta::new(open(&format!("redis://{all}/3"), OpenMode::Create).await.unwrap());
    meta.init(&sample::settings(), false).await.unwrap();
    let (dir, _) = meta.mkdir_p(b"/a/b", Default::default()).await.unwrap();
    for member in &members {
        let url = format!("redis://127.0.0.1:{}/3", member.port);
        let meta = Meta::new(open(&url, OpenMode::ReadWrite).await.unwrap());
        assert_eq!(meta.resolve_path(b"/a/b").await.unwrap().unwrap().0, dir);
        meta.mkdir_p(format!("/a/{}", member.port).as_bytes(), Default::default()).await.unwrap();
    }
    assert_eq!(meta.resolve_path(b"/a").await.unwrap().unwrap().1.nlink, 2 + 4);
    let keys: Vec<String> = members.iter().map(|member| member.tell("/0", &["KEYS", "*"])).collect();
    let with_keys: Vec<&String> = keys.iter().filter(|keys| !keys.is_empty()).collect();
    assert_eq!(with_keys.len(), 1, "one member has all: {keys:?}");
    assert!(with_keys[0].lines().all(|key| key.starts_with("{3}")), "{keys:?}");
    let other = open(&format!("redis://{all}/4"), OpenMode::ReadOnly).await.map(drop).unwrap_err();
    assert_eq!(other.to_string(), format!("no volume at redis://{all}/4"));
    assert!(meta.getattr(Ino::ROOT).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_conforms() {
    let Some(members) = cluster() else { return };
    let url = format!("redis://127.0.0.1:{}/7", members[0].port);
    conformance(|| async {
        members.iter().for_each(|member| drop(member.tell("/0", &["FLUSHALL"])));
        open(&url, OpenMode::Create).await.expect("an empty cluster")
    })
    .await;
}
