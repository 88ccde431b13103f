//! Volumes whose objects are in an S3 bucket, made by one client and read by the other.

use super::pair::{Pair, VOLUME, look};
use super::tree::Everything;
use crate::rig::s3::{KEYS, S3Server};

/// Fewer files than elsewhere: the server takes milliseconds for each object.
fn everything(seed: u64) -> Everything {
    Everything { files: 120, ..Everything::new(seed) }
}

/// The words of `format` after the metadata URL, the same for both clients.
fn words(server: &S3Server, more: &[&str]) -> Vec<String> {
    let bucket = server.bucket("volumes");
    let given = [VOLUME, "--storage", "s3", "--bucket", &bucket, "--access-key", KEYS.0, "--secret-key", KEYS.1];
    given.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_volume_that_juicefs_keeps_in_s3_shows_the_same_tree() {
    let Some(pair) = Pair::new("s3-theirs") else { return };
    let Some(server) = pair.rig.start_s3("s3") else { return };
    let url = pair.url();
    let words = words(&server, &["--compress", "zstd", "--block-size", "256K", "--hash-prefix"]);
    pair.juicefs(&["format", &url].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>());
    let theirs = pair.juicefs_mount("theirs", &[]);
    everything(31).write(&theirs.point);
    let expected = look(&theirs.point);
    theirs.unmount(&pair.rig);
    let ours = pair.shoal_mount("ours", &[]);
    expected.assert_same(&look(&ours.point), "JuiceFS's volume in S3");
    ours.unmount(&pair.rig);
}

#[test]
fn a_volume_that_we_keep_in_s3_shows_the_same_tree_to_juicefs() {
    let Some(pair) = Pair::new("s3-ours") else { return };
    let Some(server) = pair.rig.start_s3("s3") else { return };
    let url = pair.url();
    let words = words(&server, &["--compress", "lz4", "--block-size", "128K"]);
    pair.rig.ok(pair.rig.shoal().args(["format", &url]).args(words));
    let source = pair.rig.mkdir("source");
    everything(32).write(&source);
    pair.rig.import(&source, &pair.url());
    let ours = pair.shoal_mount("ours", &[]);
    let theirs = pair.juicefs_mount("theirs", &[]);
    look(&theirs.point).assert_same(&look(&ours.point), "our volume in S3, JuiceFS's view and ours");
    let (here, there) = (look(&source.join("random")), look(&theirs.point.join("random")));
    assert_eq!(here.bytes(), there.bytes());
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}

#[test]
fn a_bucket_that_refuses_or_is_missing_is_one_sentence() {
    let Some(pair) = Pair::new("s3-refused") else { return };
    let Some(mut server) = pair.rig.start_s3("s3") else { return };
    let url = pair.url();
    let words = words(&server, &[]);
    let wrong: Vec<&str> = words.iter().map(|word| if word == KEYS.1 { "wrong" } else { word.as_str() }).collect();
    pair.rig.refused(pair.rig.shoal().args(["format", &url]).args(&wrong));
    assert!(!pair.rig.path(format!("{VOLUME}.db")).exists(), "nothing was made");
    let nowhere: Vec<String> = words.iter().map(|word| word.replace("/volumes", "/nowhere")).collect();
    pair.rig.refused(pair.rig.shoal().args(["format", &url]).args(&nowhere));

    pair.rig.ok(pair.rig.shoal().args(["format", &url]).args(&words));
    server.process.kill();
    pair.rig.refused(&mut pair.rig.mount_command("dead", &url, &[], &[]).0);
}
