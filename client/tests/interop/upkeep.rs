//! `fsck` and `gc`: on whole and on damaged volumes, our verdict is that of JuiceFS, where it has one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use shoal_format::{Attr, Dentry, FileType, Ino, SliceRecord};
use shoal_meta::{ChunkSlices, DelayedSlices, DeletedFile, DirUsage, NewDentry, SliceRef, Txn};
use shoal_runtime::clock;
use shoal_testkit::seeded_bytes;

use super::pair::{Keys, Pair, Recipe, VOLUME, with_volume};
use crate::rig::said;

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

fn small_tree(root: &Path) {
    fs::create_dir_all(root.join("d/sub")).unwrap();
    for (name, len) in [("d/a", 200_000), ("d/b", 10), ("d/sub/c", 70_000), ("top", 1)] {
        fs::write(root.join(name), seeded_bytes(len as u64, len)).unwrap();
    }
    fs::hard_link(root.join("d/a"), root.join("d/sub/a2")).unwrap();
}

fn filled(name: &str, recipe: &Recipe) -> Option<Pair> {
    let pair = Pair::new(name)?;
    pair.juicefs_formats(recipe, &[]);
    let theirs = pair.juicefs_mount("writer", &[]);
    small_tree(&theirs.point);
    theirs.unmount(&pair.rig);
    Some(pair)
}

/// What both clients say to the same words, and whether both, or neither, call it a success.
struct Both {
    ours: String,
    theirs: String,
    success: bool,
}

impl Pair {
    #[track_caller]
    fn both(&self, words: &[&str]) -> Both {
        // Both only look: the second sees what the first saw.
        let theirs = self.rig.oracle_command(&self.juicefs, words).output().unwrap();
        let ours = self.rig.shoal().args(words).output().unwrap();
        let verdict = |output: &Output| output.status.success();
        let both = Both { ours: said(&ours), theirs: said(&theirs), success: verdict(&ours) };
        assert_eq!(verdict(&ours), verdict(&theirs), "{words:?}\nours {}\ntheirs {}", both.ours, both.theirs);
        both
    }

    /// Object files of blocks, as `slice_index_size`.
    fn blocks(&self) -> Vec<PathBuf> {
        let mut pending = vec![self.objects().join(VOLUME).join("chunks")];
        let mut blocks = Vec::new();
        while let Some(path) = pending.pop() {
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(_) => blocks.push(path),
            }
        }
        blocks.sort();
        blocks
    }

    fn block(&self, ends: &str) -> PathBuf {
        self.blocks().into_iter().find(|path| path.to_str().unwrap().ends_with(ends)).expect("such a block")
    }

    fn add_block(&self, key: &str, bytes: usize) -> PathBuf {
        let path = self.objects().join(VOLUME).join("chunks").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![7; bytes]).unwrap();
        path
    }

    /// Changes records as no client would.
    fn damage(&self, change: impl AsyncFnOnce(&dyn Txn)) {
        with_volume(&self.url(), async |engine| {
            let txn = engine.begin().await.unwrap();
            change(&*txn).await;
            txn.commit().await.unwrap();
        });
    }

    fn ino(&self, path: &str) -> Ino {
        let mut found = None;
        with_volume(&self.url(), async |engine| {
            let mut here = Ino::ROOT;
            for name in path.split('/') {
                here = engine.records().entry(here, name.as_bytes()).await.unwrap().expect("a name").dentry.ino;
            }
            found = Some(here);
        });
        found.unwrap()
    }
}

impl Both {
    /// The sentence that begins so, which both say in the same words.
    #[track_caller]
    fn same(&self, begins: &str) -> String {
        let sentence = |text: &str| {
            let from = text.find(begins).unwrap_or_else(|| panic!("nobody says `{begins}`:\n{text}"));
            let line = text[from..].lines().next().unwrap_or_default();
            // Theirs ends with where in the program it was said, ours with what to do.
            let end = line.find(" [").or(line.find("; ")).unwrap_or(line.len());
            line[..end].replace('&', "").trim().to_owned()
        };
        let (ours, theirs) = (sentence(&self.ours), sentence(&self.theirs));
        assert_eq!(ours, theirs);
        ours
    }

    #[track_caller]
    fn both_say(&self, words: &str) {
        assert!(self.ours.contains(words), "ours does not say `{words}`:\n{}", self.ours);
        assert!(self.theirs.contains(words), "theirs does not say `{words}`:\n{}", self.theirs);
    }
}

#[test]
fn whole_volumes_are_whole_to_both() {
    let recipes = [
        PLAIN,
        Recipe { compress: "zstd", cipher: Some("aes256gcm-rsa"), keys: Keys::HashPrefix, block_size: "64K" },
        Recipe { compress: "lz4", cipher: None, keys: Keys::Shards, block_size: "128K" },
    ];
    for recipe in recipes {
        let Some(pair) = filled("whole", &recipe) else { return };
        let url = pair.url();
        let both = pair.both(&["fsck", &url]);
        assert!(both.success, "{}", both.ours);
        both.same("Used by ");
        // JuiceFS 1.4.2 loses some objects of several buckets when it merges their lists.
        let listed_whole = recipe.keys != Keys::Shards;
        if listed_whole {
            both.same("Found ");
        }
        let tree = pair.both(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat"]);
        assert!(tree.success, "{}", tree.ours);
        tree.same("Checked ");
        let young = pair.both(&["gc", &url]);
        young.both_say(" 0 leaked (0 bytes)");
        pair.age_objects();
        let old = pair.both(&["gc", &url]);
        old.both_say(" 0 leaked (0 bytes)");
        old.both_say(" 0 skipped (0 bytes)");
        old.same("using ");
        if listed_whole {
            young.same("scanned ");
            old.same("scanned ");
        }
    }
}

#[test]
fn lost_objects_are_found_with_the_files_they_are_of() {
    let Some(pair) = filled("lost", &PLAIN) else { return };
    let url = pair.url();
    let lost = pair.block("_1_65536");
    fs::remove_file(&lost).unwrap();
    let both = pair.both(&["fsck", &url]);
    assert!(!both.success);
    both.same("Found ");
    both.same("Used by ");
    both.both_say(lost.file_name().unwrap().to_str().unwrap());
    // JuiceFS names one of the file's two names.
    assert!(both.ours.contains("/d/a\n") && both.ours.contains("/d/sub/a2\n"), "{}", both.ours);
    assert!(both.theirs.contains("/d/a") || both.theirs.contains("/d/sub/a2"), "{}", both.theirs);
    both.both_say("1 broken files");
    assert!(!pair.both(&["fsck", &url, "--path", "/d/a"]).success);
    assert!(!pair.both(&["fsck", &url, "--path", "/d", "--recursive"]).success);
    assert!(pair.both(&["fsck", &url, "--path", "/top"]).success);

    // That an object is too short, only we notice.
    let short = pair.block("_0_10");
    fs::File::options().write(true).open(&short).unwrap().set_len(9).unwrap();
    for words in [&["fsck", &url][..], &["fsck", &url, "--path", "/d/b"]] {
        let output = pair.rig.shoal().args(words).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("has 9 bytes") && text.contains("/d/b\n"), "{text}");
    }
}

#[test]
fn directories_that_do_not_add_up_are_found_and_put_right() {
    let Some(pair) = filled("broken", &PLAIN) else { return };
    let url = pair.url();
    let (d, sub, b) = (pair.ino("d"), pair.ino("d/sub"), pair.ino("d/b"));
    pair.damage(async |txn| {
        let attrs = txn.attrs_locked(&[d, sub]).await.unwrap();
        let attrs: Vec<Attr> = attrs.into_iter().flatten().collect();
        let wrong = [(d, Attr { nlink: 9, ..attrs[0].clone() })];
        txn.update_attrs(&wrong).await.unwrap();
        txn.put_dir_usage(&[(sub, DirUsage { length: 1, space: 2, inodes: 3 })]).await.unwrap();
    });
    let both = pair.both(&["fsck", &url, "--path", "/", "--recursive"]);
    assert!(!both.success);
    assert_eq!(both.same("nlink of "), "nlink of /d should be 3, but got 9");
    let both = pair.both(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat"]);
    assert!(!both.success);
    assert_eq!(both.same("usage stat of "), "usage stat of /d/sub should be {270000 274432 2}, but got {1 2 3}");
    assert!(pair.both(&["fsck", &url, "--path", "/d/sub"]).success, "use that is known is believed");

    // What JuiceFS does not look at: link counts of files, parents, names of nothing, use of the volume.
    let (gone, lost) = (Ino(900_000), Ino(900_001));
    pair.damage(async |txn| {
        let attrs = txn.attrs_locked(&[b, sub]).await.unwrap();
        let attrs: Vec<Attr> = attrs.into_iter().flatten().collect();
        let wrong = [(b, Attr { nlink: 7, ..attrs[0].clone() }), (sub, Attr { parent: Ino::ROOT, ..attrs[1].clone() })];
        txn.update_attrs(&wrong).await.unwrap();
        let name =
            |name: &'static [u8], kind, ino| NewDentry { parent: d, name: name.into(), dentry: Dentry { kind, ino } };
        let names = [name(b"gone", FileType::Regular, gone), name(b"lost", FileType::Directory, lost)];
        txn.insert_dentries(&names).await.unwrap();
        txn.add_counter(shoal_meta::Counter::UsedSpace, 12_288).await.unwrap();
    });
    let check = |more: &[&str], code: i32| {
        let words = [&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat"], more].concat();
        let output = pair.rig.shoal().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        said(&output)
    };
    let text = check(&[], 1);
    for wrong in [
        "nlink of /d should be 4, but got 9",
        "usage stat of /d/sub should be",
        "nlink of /d/b should be 1, but got 7",
        "parent of /d/sub should be",
        "/d/gone names inode 900000, which does not exist",
        "directory /d/lost (inode 900001) has no attributes",
        "the volume should use",
    ] {
        assert!(text.contains(wrong), "`{wrong}` is missing:\n{text}");
    }
    let text = check(&["--repair", "--repair-dir-mode", "0700"], 1);
    assert_eq!(text.matches("; repaired").count(), 7, "{text}");
    // A directory that was made anew has no statistics, and counts in those above it.
    let text = check(&["--repair"], 1);
    assert!(text.contains("/d/gone names inode 900000, which does not exist; remove the name"), "{text}");
    pair.damage(async |txn| {
        let attr = txn.attr(lost).await.unwrap().expect("it was made");
        assert_eq!((attr.mode, attr.parent, attr.nlink), (0o700, d, 2));
        let old = shoal_meta::OldDentry { parent: d, name: b"gone".as_slice().into(), ino: gone };
        txn.delete_dentries(&[old]).await.unwrap();
    });
    check(&[], 0);
    let said = pair.juicefs(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat"]);
    assert!(!said.contains("should be"), "{said}");
    pair.assert_fsck_is_clean();
}

#[test]
fn what_nothing_needs_is_found_and_deleted() {
    let Some(pair) = filled("leaks", &PLAIN) else { return };
    let url = pair.url();
    let now = clock::unix_now().as_secs() as i64;
    let leaked = [pair.add_block("0/900/900000_0_3", 3), pair.add_block("5/5000/5000000_0_65536", 65_536)];
    let used = pair.block("_0_10").file_name().unwrap().to_str().unwrap().replace("_0_10", "");
    // No slice of this size has such a block.
    let odd = pair.add_block(&format!("0/0/{used}_0_99"), 99);
    let slices = [(800_000u64, 11u32), (800_001, 12), (800_002, 13), (800_003, 14)];
    let blocks: Vec<PathBuf> =
        slices.iter().map(|(id, size)| pair.add_block(&format!("0/800/{id}_0_{size}"), *size as usize)).collect();
    pair.damage(async |txn| {
        let refs = |at: usize, count| SliceRef { id: slices[at].0, size: slices[at].1, count };
        txn.insert_slice_refs(&[refs(0, 1), refs(1, 1), refs(2, 1), refs(3, 1)]).await.unwrap();
        // Slice 0 is dead, 1 waits, 2 has waited, 3 is of a file that was removed.
        txn.drop_slice_refs(&[refs(0, 1)]).await.unwrap();
        let delayed =
            |at: usize, age| DelayedSlices { id: 700_000 + at as u64, at: now - age, slices: vec![slices[at]] };
        txn.insert_delayed(&delayed(1, 60)).await.unwrap();
        txn.insert_delayed(&delayed(2, 3 * 86_400)).await.unwrap();
        let file = DeletedFile { ino: Ino(900_000), length: 14, removed: now - 60 };
        let list = ChunkSlices { ino: file.ino, index: 0, slices: vec![SliceRecord::whole(0, slices[3].0, 14)] };
        txn.append_slices(&[list]).await.unwrap();
        txn.insert_deleted_files(&[file]).await.unwrap();
    });
    pair.age_objects();
    let young = pair.add_block("0/900/900001_0_3", 3);

    let both = pair.both(&["gc", &url]);
    let found = "1 pending delete (11 bytes), 2 compacted (25 bytes), 3 leaked (65638 bytes)";
    both.both_say(found);
    both.both_say("1 skipped (3 bytes)");
    // What waits and is due, only we say before it is deleted.
    assert!(both.ours.contains("1 delslices (13 bytes), 1 delfiles (14 bytes)"), "{}", both.ours);
    assert!(pair.blocks().len() > 10, "nothing was deleted");

    let text = pair.rig.ok(pair.rig.shoal().args(["gc", &url, "--delete", "--threads", "3"]));
    assert!(text.contains("3 leaked (65638 bytes), 1 delslices (13 bytes), 1 delfiles (14 bytes)"), "{text}");
    for path in leaked.iter().chain([&odd, &blocks[0], &blocks[2], &blocks[3]]) {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(young.exists() && blocks[1].exists());
    let both = pair.both(&["gc", &url]);
    assert!(both.same("scanned ").contains(" 0 pending delete (0 bytes), 1 compacted (12 bytes), 0 leaked (0 bytes)"));
    pair.assert_fsck_is_clean();
}
