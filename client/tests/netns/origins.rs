//! An origin that fails, hangs, breaks off and trickles, while a reader reads what nobody has yet.

use std::time::Duration;

use crate::bed::{Bed, MOUNTS, lasting};
use crate::reader::Files;
use crate::rig::origin::Trouble;

/// A trouble, what it is called, and which share of the GETs meets it: every so-manieth.
type Case = (&'static str, Trouble, u64);

#[test]
fn the_origin_fails_breaks_off_and_is_late() {
    in_turns(
        "origin",
        &[
            ("origin: every second GET answers 503", Trouble::Status(503), 2),
            ("origin: every second body is cut", Trouble::Cut, 2),
            ("origin: answers 300 ms late", Trouble::Delay(Duration::from_millis(300)), 1),
        ],
    );
}

#[test]
fn the_origin_hangs_and_trickles() {
    in_turns(
        "origin-slow",
        &[
            ("origin: every fourth GET hangs", Trouble::Hang, 4),
            ("origin: every fourth body trickles at 16 KiB/s", Trouble::Trickle(16 << 10), 4),
        ],
    );
}

/// Each trouble while files are read that nobody has yet.
fn in_turns(name: &str, cases: &[Case]) {
    let cold: Vec<Files> = (0..cases.len())
        .map(|number| Files::new(&format!("cold-{number}"), 20 + number as u64, 6, 4 << 20, 20))
        .collect();
    let all = cold.iter().skip(1).fold(cold[0].clone(), |all, more| all.and(more));
    let Some(bed) = Bed::new(name, all) else { return };
    let nodes = bed.start_ring(3);
    let mount = bed.mount(MOUNTS[0], &nodes);
    for ((what, trouble, one_in), files) in cases.iter().zip(&cold) {
        bed.origin.trouble(*trouble, *one_in);
        let (watch, before) = (bed.watch_files(files, &[&mount]), bed.origin.troubled());
        watch.reader.goes_on_for(lasting(5, 30));
        bed.origin.heal();
        watch.end(what);
        assert!(bed.origin.troubled() > before, "{what}: it happened to nobody");
    }
}

#[test]
fn the_origin_is_away_for_a_while() {
    let Some(bed) = Bed::with_tree("outage") else { return };
    let nodes = bed.start_ring(3);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(20);
    bed.origin.trouble(Trouble::Status(503), 1);
    watch.reader.passes(Duration::from_secs(1));
    bed.origin.heal();
    watch.reader.goes_on(20);
    watch.end("origin: answers 503 for 1 s");
}
