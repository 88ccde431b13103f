//! What the format promises, counted: how much is stored for a small change of a large file, and what a rename costs the database.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use shoal_testkit::{PATIENCE, RedisServer, seeded_bytes, wait_until};

use super::bed::Bed;
use crate::rig::Rig;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Entries of the large directory.
const MANY: usize = 10_000;

/// Times a rename is looked at.
const RENAMES: usize = 10;

/// A file of 2 GiB in blocks of 4 MiB, of which those from `written` on are there, 16 MiB of them.
fn large_file(bed: &Bed, written: u64) -> File {
    let file = File::create_new(bed.path("large")).unwrap();
    file.set_len(2 * GIB).unwrap();
    file.write_all_at(&seeded_bytes(1, 16 * MIB as usize), written).unwrap();
    file.sync_all().unwrap();
    file
}

/// Sizes of the objects that `change` stores; it must not remove any.
fn stored_by(bed: &Bed, change: impl FnOnce()) -> Vec<u64> {
    let before = bed.objects();
    change();
    let mut after = bed.objects();
    for (path, size) in before {
        assert_eq!(after.remove(&path), Some(size), "{} is as it was", path.display());
    }
    after.into_values().collect()
}

fn default_blocks(name: &str) -> Option<Bed> {
    let rig = Rig::new(name)?;
    let url = rig.url("posix");
    Some(Bed::on(rig, &url, &[], &[]))
}

#[test]
fn ten_bytes_appended_to_two_gibibytes_are_one_object_of_ten_bytes() {
    let Some(bed) = default_blocks("append") else { return };
    drop(large_file(&bed, 2 * GIB - 16 * MIB));
    let mut file = OpenOptions::new().append(true).open(bed.path("large")).unwrap();
    let stored = stored_by(&bed, || {
        file.write_all(b"ten bytes!").unwrap();
        file.sync_all().unwrap();
    });
    drop(file);
    assert_eq!(stored, [10]);
    let mut end = [0; 20];
    File::open(bed.path("large")).unwrap().read_exact_at(&mut end, 2 * GIB - 10).unwrap();
    assert_eq!(end[..10], seeded_bytes(1, 16 * MIB as usize)[16 * MIB as usize - 10..]);
    assert_eq!(&end[10..], b"ten bytes!");
    bed.finish();
}

#[test]
fn what_is_overwritten_in_the_middle_of_two_gibibytes_is_all_that_is_stored() {
    let Some(bed) = default_blocks("overwrite") else { return };
    let file = large_file(&bed, GIB);
    // Across two blocks.
    let (at, new) = (GIB + 8 * MIB - 7777, seeded_bytes(2, 64 << 10));
    let stored = stored_by(&bed, || {
        file.write_all_at(&new, at).unwrap();
        file.sync_all().unwrap();
    });
    drop(file);
    assert_eq!(stored, [64 << 10]);
    let mut want = seeded_bytes(1, 16 * MIB as usize);
    want[(at - GIB) as usize..][..new.len()].copy_from_slice(&new);
    let mut found = vec![0; want.len()];
    File::open(bed.path("large")).unwrap().read_exact_at(&mut found, GIB).unwrap();
    assert!(found == want);
    bed.finish();
}

/// Transactions and commands of Redis that a rename takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Price {
    transactions: u64,
    commands: u64,
}

struct Prices<'a> {
    bed: &'a Bed,
    server: &'a RedisServer,
    url: &'a str,
}

impl Prices<'_> {
    fn so_far(&self) -> Price {
        let page = self.server.tell(self.url, &["INFO", "commandstats"]);
        // Those that scripts run are among them.
        let calls =
            page.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next()?.parse::<u64>().ok());
        Price { transactions: self.bed.mount.metric("shoal_meta_transactions_total"), commands: calls.sum() }
    }

    /// The price of moving `from` to `to` and back.
    fn of_a_move(&self, from: &str, to: &str) -> Price {
        let before = self.so_far();
        fs::rename(self.bed.path(from), self.bed.path(to)).unwrap();
        fs::rename(self.bed.path(to), self.bed.path(from)).unwrap();
        let after = self.so_far();
        Price { transactions: after.transactions - before.transactions, commands: after.commands - before.commands }
    }

    /// The same where each rename is one transaction: the client has work of its own in between, such as writing down the use of
    /// directories.
    #[track_caller]
    fn of_moves(&self, from: &str, to: &str) -> Price {
        let mut quiet = Vec::new();
        wait_until("each rename is one transaction", PATIENCE, || {
            quiet.extend(Some(self.of_a_move(from, to)).filter(|price| price.transactions == 2));
            quiet.len() == RENAMES
        });
        quiet.into_iter().min().unwrap()
    }
}

#[test]
fn a_rename_of_a_directory_costs_the_same_however_much_is_in_it() {
    let Some(rig) = Rig::new("rename") else { return };
    let Some(server) = RedisServer::start(&[]) else { return };
    let url = server.fresh_url();
    rig.format_at(&url, "posix", &["--trash-days", "0"]);
    let source = rig.mkdir("source");
    for (dir, entries) in [("few", 10), ("many", MANY)] {
        fs::create_dir(source.join(dir)).unwrap();
        (0..entries).for_each(|n| drop(File::create(source.join(dir).join(n.to_string())).unwrap()));
    }
    fs::create_dir(source.join("elsewhere")).unwrap();
    rig.import(&source, &url);
    // The kernel asks nothing twice, and the client does nothing of its own.
    let trust = ["--attr-cache", "1h", "--entry-cache", "1h", "--dir-entry-cache", "1h"];
    let bed = Bed::of(rig, &url, &[&trust[..], &["--heartbeat", "1h", "--no-bgjob"]].concat());
    let prices = Prices { bed: &bed, server: &server, url: &url };
    for target in ["moved", "elsewhere/moved"] {
        let (few, many) = (prices.of_moves("few", target), prices.of_moves("many", target));
        println!("{target}: {few:?}");
        assert_eq!(many, few, "to {target}");
    }
    assert_eq!(fs::read_dir(bed.path("many")).unwrap().count(), MANY);
    bed.finish();
}
