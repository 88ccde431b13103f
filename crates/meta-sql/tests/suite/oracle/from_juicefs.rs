//! Volumes made by the real client, read by us.

use serde_json::{Value, json};
use shoal_format::Ino;
use shoal_meta::Meta;
use shoal_meta_sql::OpenMode;

use super::super::bed::Bed;
use super::client::{JuiceFs, Mount};
use super::listing::{sorted, tree};

/// Both listings of the volume in `vol.db`, root and trash, must be equal.
pub async fn assert_same(juicefs: &JuiceFs, bed: &Bed, meta: &Meta) {
    assert_dumped(juicefs.dump(bed), meta).await;
}

/// The dump and our listing, of root and trash, must be equal.
pub async fn assert_dumped(mut dump: Value, meta: &Meta) {
    for (key, ino) in [("FSTree", Ino::ROOT), ("Trash", Ino::TRASH)] {
        let attr = meta.getattr(ino).await.unwrap().unwrap();
        let ours = tree(meta, ino, &attr).await;
        assert_eq!(ours, sorted(dump[key].take()), "{key}");
    }
    let fs = meta.statfs().await.unwrap();
    assert_eq!(json!(fs.used_bytes), dump["Counters"]["usedSpace"]);
    assert_eq!(json!(fs.used_inodes), dump["Counters"]["usedInodes"]);
}

/// What a mount writes that `sync` cannot: hard links, every type, odd names, many records, the trash.
pub fn odd_tree(setting: Value, uid: u32) -> Value {
    let attr = |inode: u64, kind: &str, nlink: u32, length: u64| {
        json!({ "inode": inode, "type": kind, "mode": 0o4755, "uid": uid, "gid": 5, "atime": -1000, "mtime": 1_700_000_000,
            "ctime": 1_700_000_001, "mtimensec": 1001, "nlink": nlink, "length": length })
    };
    let slices = json!([{ "index": 0, "slices": [
        { "id": 1, "size": 100, "len": 100 }, { "id": 2, "pos": 50, "size": 200, "off": 7, "len": 9 }, { "id": 0, "pos": 3, "size": 0, "len": 5 }] },
        { "index": 2, "slices": [{ "id": 2, "size": 200, "len": 200 }] }]);
    let hard = json!({ "attr": attr(10, "regular", 2, (128 << 20) + 200), "chunks": slices,
        "xattrs": [{ "name": "user.b", "value": "2" }, { "name": "user.a", "value": "" }] });
    let mut device = attr(13, "chardev", 1, 0);
    device["rdev"] = json!(259);
    let entries = json!({
        "a": { "attr": attr(2, "directory", 3, 0), "entries": {
            "b": { "attr": attr(3, "directory", 2, 0), "entries": {} },
            "hard": hard } },
        "hard%20too": hard,
        "%FF%FE": { "attr": attr(11, "symlink", 1, 0), "symlink": "../%FFx" },
        "größe": { "attr": attr(12, "fifo", 1, 0) },
        "dev": { "attr": device },
        "sock": { "attr": attr(14, "socket", 1, 0) },
    });
    let trash_attr = |inode: u64| {
        json!({ "inode": inode, "type": "directory", "mode": 0o555, "uid": 0, "gid": 0,
        "atime": 1, "mtime": 1, "ctime": 1, "nlink": 2, "length": 0 })
    };
    json!({
        "Setting": setting,
        "Counters": { "usedSpace": 0, "usedInodes": 0, "nextInodes": 100, "nextChunk": 10, "nextSession": 1, "nextTrash": 1 },
        "Sustained": [], "DelFiles": [],
        "FSTree": { "attr": { "inode": 1, "type": "directory", "mode": 0o777, "uid": 0, "gid": 0, "atime": 1, "mtime": 1, "ctime": 1,
            "nlink": 3, "length": 0 }, "entries": entries },
        "Trash": { "attr": trash_attr(Ino::TRASH.0), "entries": { "2026-11-27-03": { "attr": trash_attr(Ino::TRASH.0 + 1),
            "entries": { "1-20-gone": { "attr": attr(20, "regular", 1, 7) } } } } },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volume_loaded_by_juicefs_reads_the_same() {
    let Some(juicefs) = JuiceFs::find("volume_loaded_by_juicefs_reads_the_same") else { return };
    let bed = Bed::new();
    juicefs.format(&bed, "loaded", &[]);
    let setting = juicefs.dump(&bed)["Setting"].take();
    std::fs::remove_file(bed.path("vol.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(bed.path(&format!("vol.db{suffix}"))).ok();
    }
    std::fs::write(bed.path("odd.json"), odd_tree(setting, 4_000_000_000).to_string()).unwrap();
    juicefs.run(&bed, &["load", &bed.url("vol.db"), "odd.json"]);

    let meta = bed.open("vol.db", OpenMode::ReadOnly).await;
    assert_same(&juicefs, &bed, &meta).await;
    let hard = meta.resolve_path(b"/a/hard").await.unwrap().unwrap();
    assert_eq!(meta.resolve_path(b"/hard too").await.unwrap().unwrap(), hard);
    assert_eq!((hard.1.parent, hard.1.uid, hard.1.atime.secs), (Ino::NONE, 4_000_000_000, -1000));
    assert_eq!(meta.readlink(Ino(11)).await.unwrap().unwrap(), &b"../\xffx"[..]);
    assert_eq!(meta.resolve_path(b"/.trash/2026-11-27-03/1-20-gone").await.unwrap().unwrap().0, Ino(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_synced_by_juicefs_appear_in_an_open_reader() {
    let Some(juicefs) = JuiceFs::find("files_synced_by_juicefs_appear_in_an_open_reader") else { return };
    let bed = Bed::new();
    juicefs.format(&bed, "synced", &["--block-size", "64K", "--trash-days", "1"]);
    let meta = bed.open("vol.db", OpenMode::ReadOnly).await;
    assert_eq!(meta.readdir(Ino::ROOT).await.unwrap(), []);

    std::fs::create_dir_all(bed.path("src/dir/deep")).unwrap();
    std::fs::write(bed.path("src/empty"), "").unwrap();
    std::fs::write(bed.path("src/dir/small"), "hello").unwrap();
    std::fs::write(bed.path("src/dir/deep/big"), vec![7u8; 300_000]).unwrap();
    std::os::unix::fs::symlink("dir/small", bed.path("src/link")).unwrap();
    juicefs.run(&bed, &["sync", "--dirs", "--links", "--perms", "src/", "jfs://VOL/"]);

    assert_same(&juicefs, &bed, &meta).await;
    let (ino, attr) = meta.resolve_path(b"/dir/deep/big").await.unwrap().unwrap();
    assert_eq!(attr.length, 300_000);
    let slices = meta.chunk(ino, 0).await.unwrap();
    assert_eq!(slices.iter().map(|slice| u64::from(slice.len)).sum::<u64>(), 300_000);
    assert_eq!(meta.settings().await.unwrap().block_size, 64);
}

/// A real mount: hard links, appends (lists stored as text), removal into the trash, extended attributes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volume_written_through_a_mount_reads_the_same() {
    let Some(juicefs) = JuiceFs::find("volume_written_through_a_mount_reads_the_same") else { return };
    let bed = Bed::new();
    juicefs.format(&bed, "mounted", &[]);
    let Some(mount) = Mount::new("volume_written_through_a_mount_reads_the_same", &juicefs, &bed) else { return };
    let at = |name: &str| bed.path("mnt").join(name);
    std::fs::create_dir_all(at("d/sub")).unwrap();
    for n in 0..5 {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(at("d/grown")).unwrap();
        file.write_all(format!("line {n}\n").as_bytes()).unwrap();
    }
    std::fs::hard_link(at("d/grown"), at("hard")).unwrap();
    std::os::unix::fs::symlink("d/grown", at("link")).unwrap();
    std::fs::write(at("gone"), "x").unwrap();
    std::fs::remove_file(at("gone")).unwrap();
    drop(mount);

    let meta = bed.open("vol.db", OpenMode::ReadOnly).await;
    assert_same(&juicefs, &bed, &meta).await;
    let (ino, attr) = meta.resolve_path(b"/hard").await.unwrap().unwrap();
    assert_eq!((attr.nlink, attr.length, attr.parent), (2, 35, Ino::NONE));
    assert_eq!(meta.chunk(ino, 0).await.unwrap().len(), 5);
    let trash = meta.readdir(Ino::TRASH).await.unwrap();
    assert_eq!(trash.len(), 1);
    assert_eq!(meta.readdir(trash[0].ino).await.unwrap().len(), 1);
}
