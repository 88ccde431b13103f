//! Nodes that join and leave in order, while a reader reads.

use std::net::SocketAddr;

use rustix::process::Signal;
use shoal_testkit::PATIENCE;

use crate::bed::{Bed, MOUNTS, NODES, lasting};

#[test]
fn a_fourth_node_joins() {
    let Some(bed) = Bed::with_tree("join") else { return };
    let mut nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    nodes.push(bed.start_node(4, &bed.seeds(3)));
    bed.converge(&nodes, &[&mount]);
    watch.reader.goes_on_for(lasting(2, 20));
    // Every block, whatever the reader happened to ask for.
    bed.files.read_all(&mount.point);
    watch.end("a fourth node joins").spared_the_origin(1);
}

#[test]
fn nodes_are_drained_by_command_and_by_signal() {
    let Some(bed) = Bed::with_tree("drain") else { return };
    let mut nodes = bed.start_ring(4);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    for (what, by_command) in [("one of four nodes drained by command", true), ("one of three by SIGTERM", false)] {
        let watch = bed.watch(&[&mount]);
        watch.reader.goes_on(50);
        let mut leaving = nodes.remove(1);
        if by_command {
            let mut command = bed.rig.shoal();
            command.args(["node", "drain", &leaving.addr.to_string(), "--certs", &leaving.name]);
            bed.rig.ok(&mut command);
        } else {
            leaving.process.signal(Signal::TERM);
        }
        let ended = leaving.process.wait(PATIENCE);
        assert!(ended.success(), "a drained node ends well, not with {ended}\n{}", leaving.process.output());
        bed.converge(&nodes, &[&mount]);
        watch.reader.goes_on_for(lasting(2, 20));
        bed.files.read_all(&mount.point);
        watch.end(what).spared_the_origin(1);
    }
}

#[test]
fn nodes_restarted_in_order_one_after_the_other() {
    let Some(bed) = Bed::with_tree("rolling") else { return };
    let mut nodes = bed.start_ring(3);
    bed.warm_up(&nodes);
    let mount = bed.mount(MOUNTS[0], &nodes);
    let watch = bed.watch(&[&mount]);
    watch.reader.goes_on(50);
    for host in NODES.into_iter().take(3) {
        let mut leaving = nodes.remove(0);
        assert!(leaving.process.terminate(PATIENCE).success(), "it ends well\n{}", leaving.process.output());
        bed.converge(&nodes, &[&mount]);
        watch.reader.goes_on_for(lasting(1, 10));
        let others: Vec<SocketAddr> = nodes.iter().map(|node| node.addr).collect();
        nodes.push(bed.start_node(host, &others));
        bed.converge(&nodes, &[&mount]);
        watch.reader.goes_on_for(lasting(1, 10));
    }
    bed.files.read_all(&mount.point);
    watch.end("nodes restarted in order, one by one").spared_the_origin(6);
}
