//! Volumes that cannot be opened, and ways not to open one: one sentence that names the thing, exit code 1, nothing mounted.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::pair::{Keys, Pair, Recipe, edit_setting};

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "1M" };
const ENCRYPTED: Recipe = Recipe { cipher: Some("aes256gcm-rsa"), ..PLAIN };

/// Both ways into a volume refuse it with a sentence that contains each of `parts`.
#[track_caller]
fn refused(pair: &Pair, parts: &[&str]) {
    let source = pair.rig.mkdir("a-source");
    fs::write(source.join("file"), "x").unwrap();
    let (mount, point) = pair.rig.mount_command("refused", &pair.url(), &[], &[]);
    let mut import = pair.rig.shoal();
    import.args(["import", "--quiet"]).arg(&source).arg(pair.url());
    for mut command in [mount, import] {
        let said = pair.rig.refused(&mut command);
        for part in parts {
            assert!(said.contains(part), "no `{part}` in: {said}");
        }
    }
    assert!(fs::read_dir(&point).unwrap().next().is_none(), "nothing is mounted");
}

/// The volume opens again: what was refused was refused for the reason given.
#[track_caller]
fn opens(pair: &Pair) {
    pair.shoal_mount("opens", &[]).unmount(&pair.rig);
}

fn database(pair: &Pair) -> PathBuf {
    pair.rig.path(format!("{}.db", super::pair::VOLUME))
}

#[test]
fn a_volume_of_a_later_layout_is_refused() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    edit_setting(&pair.url(), |text| text.replace("\"MetaVersion\": 1", "\"MetaVersion\": 2"));
    refused(&pair, &["interop", "2"]);
    edit_setting(&pair.url(), |text| text.replace("\"MetaVersion\": 2", "\"MetaVersion\": 1"));
    opens(&pair);
}

#[test]
fn a_volume_that_wants_a_newer_client_is_refused() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    opens(&pair);
    pair.juicefs(&["config", &pair.url(), "--min-client-version", "1.4.1", "--yes"]);
    refused(&pair, &["interop", "1.4.1"]);
}

#[test]
fn a_volume_that_wants_more_of_writers_can_be_read_but_not_loaded() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    edit_setting(&pair.url(), |text| {
        text.replacen('{', "{\"RangerRestUrl\": \"http://r\", \"RangerService\": \"s\",", 1)
    });
    opens(&pair);
    let source = pair.rig.mkdir("source");
    let said = pair.rig.refused(pair.rig.shoal().args(["import", "--quiet"]).arg(&source).arg(pair.url()));
    assert!(said.contains("interop") && said.contains("Ranger"), "{said}");
}

#[test]
fn sm4_is_refused_by_name() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.juicefs_formats(&ENCRYPTED, &[]);
    opens(&pair);
    edit_setting(&pair.url(), |text| text.replace("aes256gcm-rsa", "sm4gcm"));
    refused(&pair, &["sm4gcm"]);
}

#[test]
fn a_protected_key_wants_its_passphrase() {
    let Some(mut pair) = Pair::new("refusals") else { return };
    let golden = "../crates/format/tests/golden/keys/pbes2_sha256_aes256.pem";
    let key = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(golden).display().to_string();
    let bucket = pair.objects().display().to_string();
    let words = ["format", &pair.url(), "interop", "--bucket", &bucket, "--encrypt-rsa-key", &key].map(str::to_owned);
    let with = |command: &mut Command, passphrase: Option<&str>| {
        command.env_remove("JFS_RSA_PASSPHRASE");
        command.envs(passphrase.map(|passphrase| ("JFS_RSA_PASSPHRASE", passphrase)));
    };
    for passphrase in [None, Some("wrong")] {
        let mut format = pair.rig.shoal();
        format.args(&words);
        with(&mut format, passphrase);
        pair.rig.refused(&mut format);
        assert!(!database(&pair).exists(), "nothing was made");
    }
    pair.rig.set_env("JFS_RSA_PASSPHRASE", PASSPHRASE);
    pair.juicefs(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let theirs = pair.juicefs_mount("theirs", &[]);
    fs::write(theirs.point.join("file"), "behind a passphrase").unwrap();
    theirs.unmount(&pair.rig);
    let ours = pair.shoal_mount("ours", &[]);
    assert_eq!(fs::read_to_string(ours.point.join("file")).unwrap(), "behind a passphrase");
    ours.unmount(&pair.rig);
    for (passphrase, part) in
        [(None, "JFS_RSA_PASSPHRASE"), (Some(""), "JFS_RSA_PASSPHRASE"), (Some("wrong"), "passphrase")]
    {
        let (mut mount, _) = pair.rig.mount_command("refused", &pair.url(), &[], &[]);
        with(&mut mount, passphrase);
        let said = pair.rig.refused(&mut mount);
        assert!(said.contains(part), "{passphrase:?}: {said}");
    }
}

/// Of the key in the repository.
const PASSPHRASE: &str = "secret";

#[test]
fn a_missing_bucket_is_named() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    let objects = pair.objects();
    fs::rename(&objects, pair.rig.path("away")).unwrap();
    refused(&pair, &[objects.to_str().unwrap()]);
    assert!(!objects.exists(), "opening makes no bucket");
    fs::rename(pair.rig.path("away"), &objects).unwrap();
    opens(&pair);
}

#[test]
fn a_damaged_database_is_named() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let path = database(&pair);
    let whole = fs::read(&path).unwrap();
    let name = path.to_str().unwrap().to_owned();
    let write = |bytes: &[u8]| {
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{name}{end}"));
        }
        fs::write(&path, bytes).unwrap();
    };
    write(b"this is no database, but it is long enough to be looked at more closely than an empty file would be");
    refused(&pair, &[&name]);
    write(&whole[..whole.len() / 2 / 4096 * 4096]);
    refused(&pair, &[&name]);
    let garbled: Vec<u8> =
        whole.iter().enumerate().map(|(at, byte)| if at > 100 { byte ^ 0x5a } else { *byte }).collect();
    write(&garbled);
    refused(&pair, &[&name]);
    write(b"");
    refused(&pair, &["no volume at"]);
    fs::remove_file(&path).unwrap();
    refused(&pair, &["no database at", &name]);
    fs::create_dir(&path).unwrap();
    refused(&pair, &[&name]);
    fs::remove_dir(&path).unwrap();
    write(&whole);
    opens(&pair);
}

#[test]
fn a_setting_that_is_none_is_refused() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.juicefs_formats(&ENCRYPTED, &[]);
    edit_setting(&pair.url(), |text| text.replace("\"EncryptKey\": \"", "\"EncryptKey\": \"AAAA"));
    refused(&pair, &["interop"]);
    edit_setting(&pair.url(), |_| "{\"Name\": 7".to_owned());
    refused(&pair, &[]);
}

#[test]
fn addresses_and_mountpoints_that_cannot_be_are_refused() {
    let Some(pair) = Pair::new("refusals") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let url = pair.url();
    for (address, part) in [("tikv://127.0.0.1/1", "tikv"), ("nonsense", "nonsense"), ("sqlite3://", "sqlite3://")] {
        let said = pair.rig.refused(&mut pair.rig.mount_command("m", address, &[], &[]).0);
        assert!(said.contains(part), "{said}");
    }
    let file = pair.rig.path("a-file");
    fs::write(&file, "x").unwrap();
    for point in [&file, &pair.rig.path("missing")] {
        let said = pair.rig.refused(pair.rig.shoal().args(["mount", &url, "--metrics", "none"]).arg(point));
        assert!(said.contains(point.to_str().unwrap()), "{said}");
    }
    let mounted = pair.shoal_mount("used", &[]);
    let said = pair.rig.refused(&mut pair.rig.mount_command("used", &url, &[], &[]).0);
    assert!(said.contains(mounted.point.to_str().unwrap()) && said.contains("shoal umount"), "{said}");
    mounted.unmount(&pair.rig);
}
