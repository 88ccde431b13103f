//! Large packets over a real link: two hosts in network namespaces, each end of the cable with its own MTU.
//!
//! Needs root; says so loudly and passes where that is missing. The namespaces have no names and end with this process.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use shoal_net::testing::TestCa;
use shoal_net::{Endpoint, EndpointConfig, MtuChoice, Role};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_testkit::{enter_namespace, have_command, have_root, network_namespace, skipped};

use crate::support::{Blocks, PATIENCE, block, bytes, metric, patient, whole};

/// UDP payload of a packet that fills an Ethernet frame of 9000 bytes, IPv6 and tunnels considered.
const JUMBO: u16 = 8952;

/// A node and a client on two hosts.
struct Link {
    node: Endpoint,
    node_metrics: Registry,
    client: Endpoint,
    client_metrics: Registry,
}

impl Link {
    /// Both ends claim to carry [`JUMBO`]; the cable's ends have these MTUs. `None` where there is no such link to be had.
    fn new(client_mtu: u32, node_mtu: u32) -> Option<Link> {
        if !have_root() || !have_command("ip") || !have_command("unshare") {
            skipped("jumbo frames over a real link: needs root, ip and unshare");
            return None;
        }
        let (here, there) = match (network_namespace(), network_namespace()) {
            (Ok(here), Ok(there)) => (here, there),
            (Err(error), _) | (_, Err(error)) => {
                skipped(&format!("jumbo frames over a real link: no network namespace can be made here: {error}"));
                return None;
            }
        };
        let (pid, fd) = (std::process::id(), there.as_raw_fd());
        let cable = format!(
            "link set lo up\nlink add eth0 mtu {client_mtu} type veth peer name eth0 mtu {node_mtu} netns /proc/{pid}/fd/{fd}\n\
             addr add 10.78.0.1/24 dev eth0\nlink set eth0 up\n"
        );
        inside(&here, || ip(&cable));
        inside(&there, || ip("link set lo up\naddr add 10.78.0.2/24 dev eth0\nlink set eth0 up\n"));
        let ca = TestCa::new("g");
        let bind = |host: &File, addr: [u8; 4], role, name| {
            let (listen, mtu) = (SocketAddr::from((addr, 0)), MtuChoice::Bytes(JUMBO));
            let config = EndpointConfig { listen, mtu, ..patient(ca.issue(role, name)) };
            let metrics = Registry::new();
            (inside(host, || Endpoint::bind(config, &metrics).unwrap()), metrics)
        };
        let (node, node_metrics) = bind(&there, [10, 78, 0, 2], Role::Node, "n1");
        let (client, client_metrics) = bind(&here, [10, 78, 0, 1], Role::Client, "c1");
        node.serve(Arc::new(Blocks::default()));
        Some(Link { node, node_metrics, client, client_metrics })
    }

    /// Fetches 4 MiB and checks every byte.
    async fn fetch(&self) {
        let request = whole(block("good", 4 << 20));
        let fetched = clock::timeout(PATIENCE, self.client.fetch(self.node.local_addr(), request)).await;
        let (head, got) = fetched.unwrap().unwrap();
        assert!(got.len() == 4 << 20 && got == bytes(head.range));
    }

    /// Packet sizes in use, the node's and the client's.
    fn sizes(&self) -> [u64; 2] {
        [&self.node_metrics, &self.client_metrics].map(|registry| metric(registry, "shoal_net_smallest_mtu_bytes"))
    }

    fn black_holes(&self) -> u64 {
        [&self.node_metrics, &self.client_metrics].map(|of| metric(of, "shoal_net_black_holes_total")).iter().sum()
    }
}

#[tokio::test]
async fn packets_grow_to_jumbo_frames_where_the_link_has_them() {
    let Some(link) = Link::new(9000, 9000) else { return };
    let deadline = clock::now() + PATIENCE;
    // Discovery stops within some bytes of the bound.
    while link.sizes().iter().any(|size| *size < 8900) {
        assert!(clock::now() < deadline, "packets stay at {:?} bytes", link.sizes());
        link.fetch().await;
    }
    assert!(link.sizes().iter().all(|size| *size <= JUMBO.into()), "{:?}", link.sizes());
    assert_eq!(link.black_holes(), 0);
}

#[tokio::test]
async fn a_link_that_carries_less_than_claimed_is_found_out_by_probes_that_cost_no_data() {
    for (client_mtu, node_mtu) in [(9000, 1500), (1500, 9000)] {
        let Some(link) = Link::new(client_mtu, node_mtu) else { return };
        let deadline = clock::now() + PATIENCE;
        while link.sizes()[0] < 1400 {
            assert!(clock::now() < deadline, "packets stay at {:?} bytes", link.sizes());
            link.fetch().await;
        }
        for _ in 0..10 {
            link.fetch().await;
        }
        // 1500 less the headers of IPv4 and UDP.
        assert!(link.sizes().iter().all(|size| *size <= 1472), "{:?}", link.sizes());
        assert_eq!(link.black_holes(), 0, "{client_mtu} to {node_mtu}");
    }
}

/// Does `work` with this thread in `host`; threads it starts and sockets it makes stay there.
fn inside<T>(host: &File, work: impl FnOnce() -> T) -> T {
    let _inside = enter_namespace(host);
    work()
}

fn ip(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines}");
}
