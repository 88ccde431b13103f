//! Volumes that JuiceFS made and filled, read by us: every compression with every encryption with every layout of keys.

use shoal_testkit::EntryKind;

use super::pair::{ALL_KEYS, Keys, Pair, Recipe, look};
use super::tree::{CHUNK, Everything};

/// Makes and fills one volume with JuiceFS and compares what the two mounts show.
fn shows_the_same_tree(recipe: Recipe, everything: &Everything) {
    let Some(pair) = Pair::new("volumes") else { return };
    println!("{recipe:?}");
    pair.juicefs_formats(&recipe, &[]);
    let theirs = pair.juicefs_mount("theirs", &[]);
    everything.write(&theirs.point);
    let expected = look(&theirs.point);
    theirs.unmount(&pair.rig);
    let files = expected.entries.values().filter(|entry| matches!(entry.kind, EntryKind::File(_))).count();
    assert!(files >= everything.files_min(), "{files} files");

    let ours = pair.shoal_mount("ours", &[]);
    expected.assert_same(&look(&ours.point), &format!("{recipe:?}"));
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}

/// All layouts of keys with one compression and one encryption. `seed` tells the trees of the 18 volumes apart.
fn every_layout(seed: u64, compress: &'static str, ciphers: [Option<&'static str>; 3], block_size: &'static str) {
    for (number, (keys, cipher)) in ALL_KEYS.into_iter().zip(ciphers).enumerate() {
        shows_the_same_tree(Recipe { compress, cipher, keys, block_size }, &Everything::new(10 * seed + number as u64));
    }
}

const AES: Option<&str> = Some("aes256gcm-rsa");
const CHACHA: Option<&str> = Some("chacha20-rsa");

#[test]
fn plain_volumes_of_juicefs_show_the_same_tree() {
    every_layout(1, "none", [None; 3], "64K");
}

#[test]
fn lz4_volumes_of_juicefs_show_the_same_tree() {
    every_layout(2, "lz4", [None; 3], "128K");
}

#[test]
fn zstd_volumes_of_juicefs_show_the_same_tree() {
    every_layout(3, "zstd", [None; 3], "1M");
}

#[test]
fn encrypted_volumes_of_juicefs_show_the_same_tree() {
    every_layout(4, "none", [AES, CHACHA, AES], "256K");
}

#[test]
fn encrypted_lz4_volumes_of_juicefs_show_the_same_tree() {
    every_layout(5, "lz4", [CHACHA, AES, CHACHA], "1M");
}

#[test]
fn encrypted_zstd_volumes_of_juicefs_show_the_same_tree() {
    every_layout(6, "zstd", [AES, CHACHA, AES], "4M");
}

#[test]
fn files_of_many_chunks_and_blocks_read_the_same() {
    let everything =
        Everything { files: 10, file_bytes_max: 30 << 20, sparse_bytes: 5 * CHUNK + 12_345, ..Everything::new(99) };
    let recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "4M" };
    shows_the_same_tree(recipe, &everything);
}
