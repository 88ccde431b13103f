//! Volumes that `shoal format` made and `shoal import` filled, judged by JuiceFS: it mounts them with the same tree, and its own
//! checks find nothing to complain about.

use std::fs;
use std::io::Write;
use std::path::Path;

use shoal_testkit::{EntryKind, Snapshot};

use super::pair::{Keys, Pair, Recipe, look};
use super::tree::{CHUNK, Everything};

/// Directory of the volume that is imported into.
const TARGET: &str = "loaded/here";

/// What the two file systems must agree on: the local one chooses the size of a directory, and the import's target directory, the
/// root here, is made by the import.
fn comparable(mut snapshot: Snapshot) -> Snapshot {
    snapshot.entries.remove(Path::new(""));
    for entry in snapshot.entries.values_mut().filter(|entry| entry.kind == EntryKind::Directory) {
        entry.size = 0;
    }
    snapshot
}

/// Loads `everything` into a new volume of `recipe`, and has JuiceFS look at it from every side.
fn juicefs_finds_nothing_wrong(recipe: Recipe, everything: &Everything) {
    let Some(pair) = Pair::new("import") else { return };
    load_and_look(&pair, recipe, everything);
}

/// Loads `everything` into the new volume of `pair`, and has JuiceFS look at it from every side.
pub fn load_and_look(pair: &Pair, recipe: Recipe, everything: &Everything) {
    println!("{recipe:?}");
    let source = pair.rig.mkdir("source");
    everything.write(&source);
    let expected = comparable(look(&source));
    pair.shoal_formats(&recipe, &[]);
    pair.rig.import(&source, &format!("{}:/{TARGET}", pair.url()));

    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
    let theirs = pair.juicefs_mount("theirs", &[]);
    expected.assert_same(&comparable(look(&theirs.point.join(TARGET))), &format!("{recipe:?} in JuiceFS"));
    let ours = pair.shoal_mount("ours", &[]);
    expected.assert_same(&comparable(look(&ours.point.join(TARGET))), &format!("{recipe:?} in ours"));
    ours.unmount(&pair.rig);
    goes_on_working(&theirs.point.join(TARGET));
    let after = look(&theirs.point);
    theirs.unmount(&pair.rig);
    let again = pair.shoal_mount("again", &[]);
    after.assert_same(&look(&again.point), &format!("{recipe:?} after JuiceFS changed it"));
    again.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    if recipe.keys == Keys::Plain {
        loads_from_its_dump(pair, &after);
    }
}

/// JuiceFS changes what we loaded: appends to, overwrites, links, renames and removes it.
fn goes_on_working(root: &Path) {
    let written = root.join("written");
    let mut appended = fs::OpenOptions::new().append(true).open(written.join("appended")).unwrap();
    appended.write_all(&[0xab; 5000]).unwrap();
    drop(appended);
    fs::OpenOptions::new().write(true).open(written.join("sparse")).unwrap().set_len(CHUNK + 5).unwrap();
    fs::remove_file(written.join("overwritten")).unwrap();
    fs::rename(root.join("links/file"), root.join("changed/file")).unwrap();
    fs::hard_link(root.join("changed/file"), root.join("changed/fourth")).unwrap();
    fs::remove_file(root.join("links/second")).unwrap();
    fs::create_dir(root.join("deep/new")).unwrap();
    fs::write(root.join("deep/new/file"), "new").unwrap();
    fs::remove_dir_all(root.join("names")).unwrap();
}

/// `dump` writes the whole volume, `load` takes it into a new database, and that shows the same tree.
fn loads_from_its_dump(pair: &Pair, expected: &Snapshot) {
    let dump = pair.rig.path("dump.json").display().to_string();
    let copy = pair.rig.url("copy");
    pair.juicefs(&["dump", &pair.url(), &dump, "--keep-secret-key"]);
    pair.juicefs(&["load", &copy, &dump]);
    let mount = pair.rig.mount("copy", &copy, &[], &[]);
    expected.assert_same(&look(&mount.point), "the dump loaded into another database");
    mount.unmount(&pair.rig);
}

fn recipe(compress: &'static str, cipher: Option<&'static str>, keys: Keys, block_size: &'static str) -> Recipe {
    Recipe { compress, cipher, keys, block_size }
}

#[test]
fn plain_volumes_of_ours_are_sound_to_juicefs() {
    juicefs_finds_nothing_wrong(recipe("none", None, Keys::Plain, "64K"), &Everything::new(21));
    juicefs_finds_nothing_wrong(recipe("none", None, Keys::Shards, "4M"), &Everything::new(22));
}

#[test]
fn compressed_volumes_of_ours_are_sound_to_juicefs() {
    juicefs_finds_nothing_wrong(recipe("lz4", None, Keys::HashPrefix, "256K"), &Everything::new(23));
    juicefs_finds_nothing_wrong(recipe("zstd", None, Keys::Plain, "1M"), &Everything::new(24));
}

#[test]
fn encrypted_volumes_of_ours_are_sound_to_juicefs() {
    juicefs_finds_nothing_wrong(recipe("none", Some("aes256gcm-rsa"), Keys::HashPrefix, "256K"), &Everything::new(25));
    juicefs_finds_nothing_wrong(recipe("zstd", Some("chacha20-rsa"), Keys::Shards, "128K"), &Everything::new(26));
    juicefs_finds_nothing_wrong(recipe("lz4", Some("aes256gcm-rsa"), Keys::Plain, "64K"), &Everything::new(27));
}

#[test]
fn the_checks_used_here_see_a_lost_and_a_leaked_block() {
    let Some(pair) = Pair::new("checks") else { return };
    pair.shoal_formats(&recipe("none", None, Keys::Plain, "64K"), &[]);
    let source = pair.rig.mkdir("source");
    fs::write(source.join("file"), [1; 100_000]).unwrap();
    pair.rig.import(&source, &pair.url());
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
    let chunks = pair.objects().join(super::pair::VOLUME).join("chunks/0/0");
    let block = fs::read_dir(&chunks).unwrap().flatten().next().expect("a block").path();
    fs::copy(&block, chunks.join("999_0_65536")).unwrap();
    pair.age_objects();
    let said = pair.juicefs(&["gc", &pair.url()]);
    assert!(said.contains(" 1 leaked "), "{said}");
    fs::remove_file(&block).unwrap();
    let output = pair.rig.oracle_command(&pair.juicefs, &["fsck", &pair.url()]).output().unwrap();
    assert!(!output.status.success(), "fsck misses a block");
}

#[test]
fn an_import_of_many_batches_keeps_the_times_of_directories() {
    let Some(pair) = Pair::new("batches") else { return };
    let source = pair.rig.mkdir("source");
    // Directories first, then thousands of files in them: a batch holds a thousand entries.
    for dir in 0..12 {
        let path = source.join(format!("d{dir}"));
        fs::create_dir(&path).unwrap();
        for file in 0..250 {
            fs::write(path.join(format!("f{file}")), "").unwrap();
        }
        let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_500_000_000 + dir, 123);
        fs::File::open(&path).unwrap().set_modified(then).unwrap();
    }
    pair.shoal_formats(&recipe("none", None, Keys::Plain, "4M"), &[]);
    pair.rig.import(&source, &pair.url());
    let theirs = pair.juicefs_mount("theirs", &[]);
    comparable(look(&source)).assert_same(&comparable(look(&theirs.point)), "3,000 files in 12 directories");
    theirs.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}

#[test]
fn status_of_juicefs_knows_the_volume_and_its_use() {
    let Some(pair) = Pair::new("status") else { return };
    pair.shoal_formats(&recipe("zstd", None, Keys::HashPrefix, "1M"), &["--capacity", "5", "--inodes", "1000"]);
    let source = pair.rig.mkdir("source");
    fs::write(source.join("file"), [1; 5000]).unwrap();
    pair.rig.import(&source, &pair.url());
    let output = pair.rig.oracle_command(&pair.juicefs, &["status", &pair.url()]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("status prints JSON");
    let stat = &status["Stat"];
    assert_eq!((stat["UsedSpace"].as_u64(), stat["UsedInodes"].as_u64()), (Some(8192), Some(1)));
    assert_eq!(stat["AvailableSpace"].as_u64(), Some((5 << 30) - 8192));
    assert_eq!(status["Setting"]["Compression"], "zstd");
}
