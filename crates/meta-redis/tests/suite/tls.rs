//! `rediss://`: certificates that are right, wrong, and for another name.

use std::path::Path;
use std::process::{Command, Stdio};

use shoal_meta::{MetaError, OpenMode};
use shoal_meta_redis::open;
use shoal_testkit::{RedisServer, TestDir, free_port, have_command, skipped};
use shoal_types::ErrorKind;

use super::volumes::volume;

fn openssl(dir: &Path, words: &str) {
    let mut command = Command::new("openssl");
    command.args(words.split(' ')).current_dir(dir).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "openssl {words}: {output:?}");
}

/// An authority `ca.pem`, and certificates of it for `db.test` and for a client.
fn certificates(dir: &Path) {
    openssl(dir, "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    std::fs::write(dir.join("ext"), "subjectAltName=DNS:db.test\nbasicConstraints=CA:FALSE\n").unwrap();
    for name in ["server", "client"] {
        openssl(dir, &format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext";
        openssl(dir, &format!("{sign} -in {name}.csr -out {name}.pem"));
    }
}

async fn refused(url: &str) -> MetaError {
    open(url, OpenMode::Create).await.map(drop).expect_err("not over this connection")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_decide_who_talks() {
    if !have_command("openssl") {
        return skipped("openssl is not installed");
    }
    let (dir, port) = (TestDir::new("redis-tls"), free_port());
    certificates(&dir.join(""));
    let d = dir.join("").display().to_string();
    let port = port.to_string();
    let files = [("--tls-cert-file", "server.pem"), ("--tls-key-file", "server.key"), ("--tls-ca-cert-file", "ca.pem")];
    let files: Vec<String> = files.iter().map(|(option, file)| format!("{option} {d}/{file}")).collect();
    let mut options = vec!["--tls-port", &port];
    options.extend(files.iter().map(String::as_str));
    let Some(_server) = RedisServer::start(&options) else { return };
    let url = format!("rediss://127.0.0.1:{port}/1");
    let (ca, own) =
        (format!("tls-ca-cert-file={d}/ca.pem"), format!("tls-cert-file={d}/client.pem&tls-key-file={d}/client.key"));
    volume(&format!("{url}?{ca}&{own}&tls-server-name=db.test")).await.close().await;
    open(&format!("{url}?{own}&insecure-skip-verify=true"), OpenMode::ReadOnly).await.unwrap();

    for wrong in [
        format!("{ca}&{own}"),
        format!("{ca}&{own}&tls-server-name=other.test"),
        format!("{own}&tls-server-name=db.test"),
    ] {
        let error = refused(&format!("{url}?{wrong}")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{wrong}: {error}");
        assert!(error.to_string().contains("tls-ca-cert-file"), "{error}");
    }
    // Who shows no certificate is let in by the handshake and turned away after it.
    refused(&format!("{url}?{ca}&tls-server-name=db.test")).await;
    let error = refused(&format!("{url}?tls-ca-cert-file={d}/none.pem")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("none.pem"), "{error}");
}
