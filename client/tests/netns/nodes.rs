//! Nodes that die, stop and come back, while a reader reads.

use rustix::process::Signal;
use shoal_testkit::PATIENCE;

use crate::bed::{Bed, MOUNTS, lasting};

#[test]
fn a_node_killed_and_back() {
    let Some(bed) = Bed::with_tree("kill") else { return };
    let mut nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    let mut dead = nodes.remove(1);
    dead.process.kill();
    watch.reader.goes_on(50);
    bed.converge(&nodes, &[&mount]);
    watch.reader.goes_on_for(lasting(2, 20));
    nodes.push(bed.start_node(2, &bed.seeds(1)));
    bed.converge(&nodes, &[&mount]);
    watch.reader.goes_on_for(lasting(2, 20));
    watch.end("kill -9 of an owner, and back");
}

#[test]
fn a_node_stopped_and_going_on() {
    let Some(bed) = Bed::with_tree("stop") else { return };
    let mut nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    let mut stopped = nodes.remove(1);
    stopped.process.signal(Signal::STOP);
    watch.reader.goes_on_for(lasting(8, 30));
    bed.converge(&nodes, &[&mount]);
    stopped.process.signal(Signal::CONT);
    nodes.push(stopped);
    bed.converge(&nodes, &[&mount]);
    watch.reader.goes_on_for(lasting(1, 10));
    watch.end("SIGSTOP of an owner, and going on");
}

#[test]
fn all_nodes_restarted() {
    let Some(bed) = Bed::with_tree("restart") else { return };
    let mut nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    nodes.iter_mut().for_each(|node| node.process.kill());
    watch.reader.goes_on_for(lasting(3, 20));
    drop(nodes);
    let nodes = bed.start_ring(3);
    bed.converge(&nodes, &[&mount]);
    watch.reader.goes_on_for(lasting(2, 20));
    watch.end("kill -9 of all nodes, and back");
}

#[test]
fn all_nodes_stopped_in_order_at_once() {
    let Some(bed) = Bed::with_tree("stop-all") else { return };
    let mut nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    nodes.iter_mut().for_each(|node| node.process.signal(Signal::TERM));
    for node in &mut nodes {
        let ended = node.process.wait(PATIENCE);
        assert!(ended.success(), "it ends well, not with {ended}\n{}", node.process.output());
    }
    watch.reader.goes_on_for(lasting(1, 10));
    drop(nodes);
    let nodes = bed.start_ring(3);
    bed.converge(&nodes, &[&mount]);
    watch.reader.goes_on_for(lasting(2, 20));
    watch.end("SIGTERM of all nodes at once, and back");
}
