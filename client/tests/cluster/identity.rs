//! Who may join, and who may read: certificates decide, and strangers change nothing.

use shoal_testkit::{ChildGuard, PATIENCE, wait_until};

use crate::rig::node::join_list;
use crate::rig::{Node, NodeOptions, Rig};
use crate::support::{node_refused, one_file, read_all, small};

/// Certificates of other authorities beside the rig's own: `stranger` of a group of the same name, `other` of another group. Each
/// directory holds a node's and a client's.
fn strangers(rig: &Rig) {
    for (name, group) in [("stranger", "test"), ("other", "other")] {
        let ca = rig.path(format!("{name}-ca"));
        rig.ok(rig.shoal().args(["cert", "init", "--group", group]).arg(&ca));
        for role in ["node", "client"] {
            let out = rig.path(format!("{name}-{role}"));
            rig.ok(rig.shoal().args(["cert", role, "--name", name, "--ca"]).arg(&ca).arg(out));
        }
    }
}

fn refusals(node: &Node) -> u64 {
    let text = node.metrics_text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("shoal_net_refused_total{"));
    lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)).sum()
}

#[test]
fn clients_without_the_groups_certificate_are_refused_with_a_sentence() {
    let Some(rig) = Rig::new("strangers") else { return };
    strangers(&rig);
    let volume = one_file(&rig, "train", 4);
    let nodes = rig.start_ring(2, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let (join, seed) = (join_list(&nodes), nodes[0].addr.to_string());
    let refused = |name: &str, certs: &str, more: &[&str]| {
        let (mut command, _) = rig.mount_command(name, &volume.url, &[], &["--join", &join, "--join-timeout", "5"]);
        rig.refused(command.arg("--certs").arg(rig.path(certs)).args(more))
    };

    let before = refusals(&nodes[0]) + refusals(&nodes[1]);
    for certs in ["stranger-client", "other-client"] {
        let said = refused(&format!("m-{certs}"), certs, &[]);
        assert!(said.contains("no node of the ring answered") && said.contains(&seed), "{said}");
        assert!(said.contains("certificate"), "the reason is named: {said}");
    }
    // Whichever side looks first refuses: the client does not trust the nodes either.
    let said = refused("m-none", "no-such-directory", &[]);
    assert!(said.contains("no-such-directory") && said.contains("shoal cert"), "{said}");
    let said = refused("m-group", "client", &["--group", "other"]);
    assert!(said.contains("--group is `other`") && said.contains("of group `test`"), "{said}");
    let said = rig.refused(
        rig.shoal().args(["status", "--join", &join, "--join-timeout", "5", "--certs"]).arg(rig.path("other-client")),
    );
    assert!(said.contains("no node of the ring answered"), "{said}");
    let after = refusals(&nodes[0]) + refusals(&nodes[1]);
    assert!(after > before, "the nodes count whom they refuse");
    for node in &nodes {
        assert_eq!(node.metric("shoal_cluster_members"), 2);
    }
    read_all(&mount, &volume.content);
}

#[test]
fn nodes_without_the_groups_certificate_do_not_join() {
    let Some(rig) = Rig::new("intruders") else { return };
    strangers(&rig);
    let volume = one_file(&rig, "train", 4);
    let nodes = rig.start_ring(2, &volume.url, &small());
    let seeds = [nodes[0].addr, nodes[1].addr];
    let with = |certs: &str| NodeOptions { certs: Some(certs.into()), ..small() };

    let said = node_refused(&mut rig.node_command(3, &volume.url, &seeds, &with("client")));
    assert!(said.contains("is a client's") && said.contains("shoal cert node"), "{said}");
    let said = node_refused(&mut rig.node_command(3, &volume.url, &seeds, &with("no-such-directory")));
    assert!(said.contains("no-such-directory") && said.contains("shoal cert"), "{said}");
    let mut options = with("other-node");
    options.flags = vec!["--group".into(), "test".into()];
    let said = node_refused(&mut rig.node_command(3, &volume.url, &seeds, &options));
    assert!(said.contains("--group is `test`") && said.contains("of group `other`"), "{said}");

    let before = refusals(&nodes[0]) + refusals(&nodes[1]);
    for certs in ["stranger-node", "other-node"] {
        let process = ChildGuard::spawn(certs, &mut rig.node_command(3, &volume.url, &seeds, &with(certs)));
        process.wait_for_log("a refusal", PATIENCE, |line| line.contains("certificate").then_some(()));
    }
    wait_until("refusals are counted", PATIENCE, || refusals(&nodes[0]) + refusals(&nodes[1]) > before);
    for node in &nodes {
        assert_eq!(node.metric("shoal_cluster_members"), 2, "{} sees nobody else", node.name);
    }
    read_all(&rig.mount("m", &volume.url, &nodes, &[]), &volume.content);
}

/// `ca.pem` of the rig's own authority and of the new one, as one text.
fn both_authorities(rig: &Rig) -> String {
    let pem = |ca: &str| std::fs::read_to_string(rig.path(ca).join("ca.pem")).expect("an authority");
    pem("ca") + &pem("new-ca")
}

fn reloads(node: &Node, outcome: &str) -> u64 {
    node.metric(&format!("shoal_net_certificate_reloads_total{{outcome=\"{outcome}\"}}"))
}

#[test]
fn an_authority_is_replaced_under_a_running_ring() {
    let Some(rig) = Rig::new("rotation") else { return };
    let volume = one_file(&rig, "train", 4);
    let mut nodes = rig.start_ring(2, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    rig.ok(rig.shoal().args(["cert", "init", "--group", "test"]).arg(rig.path("new-ca")));
    rig.ok(rig.shoal().args(["cert", "client", "--name", "new", "--ca"]).arg(rig.path("new-ca")).arg(rig.path("new")));
    let join = join_list(&nodes);
    let status = || {
        let mut command = rig.shoal();
        command.args(["status", "--join", &join, "--join-timeout", "5", "--certs"]).arg(rig.path("new"));
        command
    };
    rig.refused(&mut status());

    // First everybody trusts both authorities.
    let hang_up = |nodes: &mut [Node], reloaded: u64| {
        for node in nodes {
            node.process.signal(rustix::process::Signal::HUP);
            wait_until("the node reads its certificates again", PATIENCE, || reloads(node, "ok") == reloaded);
        }
    };
    for name in ["node-1", "node-2"] {
        std::fs::write(rig.path(name).join("ca.pem"), both_authorities(&rig)).expect("written");
    }
    hang_up(&mut nodes, 1);
    // Then each gets a certificate of the new one.
    for name in ["node-1", "node-2"] {
        let mut command = rig.shoal();
        command.args(["cert", "node", "--force", "--days", "700", "--name", name, "--ca"]);
        rig.ok(command.arg(rig.path("new-ca")).arg(rig.path(name)));
        std::fs::write(rig.path(name).join("ca.pem"), both_authorities(&rig)).expect("written");
    }
    let expiry = nodes[0].metric("shoal_net_certificate_expiry_seconds");
    hang_up(&mut nodes, 2);
    let later = nodes[0].metric("shoal_net_certificate_expiry_seconds") - expiry;
    assert!(later > 300 * 86_400, "the new certificate lasts longer: {later} s");

    // Whoever trusts the new authority alone gets in, and nobody noticed anything.
    let table = rig.ok(&mut status());
    assert!(table.contains("node-1") && table.contains("node-2"), "{table}");
    rig.wait_for_members(&nodes, 2, PATIENCE);
    read_all(&mount, &volume.content);

    // A bad file changes nothing and is said once.
    std::fs::write(rig.path("node-1").join("cert.pem"), "nonsense").expect("written");
    nodes[0].process.signal(rustix::process::Signal::HUP);
    wait_until("the node refuses it", PATIENCE, || reloads(&nodes[0], "refused") == 1);
    let errors = nodes[0].process.stderr().iter().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 1, "{}", nodes[0].process.output());
    let table = rig.ok(&mut status());
    assert!(table.contains("node-1"), "{table}");
}
