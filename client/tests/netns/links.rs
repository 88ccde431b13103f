//! Links that lose, slow down, or break on one side or both, while a reader reads.

use crate::bed::{Bed, LOOKOUT, MOUNTS, ORIGIN, lasting};
use crate::net::Fault;

#[test]
fn two_halves_apart_and_together_again() {
    let Some(bed) = Bed::with_tree("partition") else { return };
    let nodes = bed.start_ring(4);
    bed.warm_up(&nodes);
    let mounts = MOUNTS.map(|host| bed.mount(host, &nodes));
    let watch = bed.watch(&[&mounts[0], &mounts[1]]);
    watch.reader.goes_on(50);
    bed.net.partition(&[1, 2, MOUNTS[0]], &[3, 4, MOUNTS[1]]);
    watch.reader.goes_on_for(lasting(8, 30));
    bed.converge(&nodes[..2], &[&mounts[0]]);
    bed.converge(&nodes[2..], &[&mounts[1]]);
    watch.reader.goes_on(50);
    bed.net.heal();
    bed.converge(&nodes, &[&mounts[0], &mounts[1]]);
    watch.reader.goes_on_for(lasting(1, 10));
    watch.end("partition into halves, and healed");
}

#[test]
fn nothing_broken() {
    let Some(bed) = Bed::with_tree("healthy") else { return };
    let nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on_for(lasting(5, 30));
    watch.end("nothing broken, to compare with").spared_the_origin(1);
}

#[test]
fn packets_lost_everywhere() {
    let Some(bed) = Bed::with_tree("loss") else { return };
    let nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    [1, 2, 3, MOUNTS[0], ORIGIN].iter().for_each(|host| bed.net.send_one_by_one(*host));
    for percent in [2, 5] {
        let watch = bed.watch(&[&mount]);
        bed.net.break_with(&[Fault::Loss { per_mille: 10 * percent, spared: LOOKOUT }]);
        watch.reader.goes_on_for(lasting(5, 30));
        bed.net.heal();
        watch.end(&format!("{percent} % of all packets lost"));
        bed.converge(&nodes, &[&mount]);
    }
}

#[test]
fn one_node_behind_a_slow_link() {
    let Some(bed) = Bed::with_tree("slow") else { return };
    let nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    bed.net.shape(2, "20mbit");
    watch.reader.goes_on_for(lasting(8, 30));
    bed.converge(&nodes, &[&mount]);
    watch.end("one node at 20 Mbit/s");
}

#[test]
fn a_link_cut_one_way() {
    let Some(bed) = Bed::with_tree("one-way") else { return };
    let nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    for (from, to, what) in [(2, MOUNTS[0], "an owner's answers"), (MOUNTS[0], 2, "requests to an owner")] {
        let watch = bed.watch(&[&mount]);
        watch.reader.goes_on(30);
        bed.net.break_with(&[Fault::Cut { from, to }]);
        watch.reader.goes_on_for(lasting(5, 30));
        bed.net.heal();
        watch.reader.goes_on(30);
        watch.end(&format!("{what} lost on the way"));
    }
    // Members that disagree about each other.
    let watch = bed.watch(&[&mount]);
    bed.net.break_with(&[Fault::Cut { from: 1, to: 2 }]);
    watch.reader.goes_on_for(lasting(5, 30));
    bed.net.heal();
    bed.converge(&nodes, &[&mount]);
    watch.end("one node hears another, not the other way");
}
