//! Hosts on one switch, each in a network namespace of its own, and what can go wrong between them.
//!
//! Nothing of them is left when a test panics or the suite is killed.
//!
//! What works on every kernel this runs on: veth, bridges, tbf and nftables; netem is often not built in.

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use shoal_testkit::{InNamespace, enter_namespace, have_command, have_root, network_namespace, skipped};

/// A host by its number, from 1; its address ends with it.
pub type Host = u8;

/// Hosts and the switch between them.
pub struct Net {
    switch: File,
    hosts: Vec<File>,
}

/// Something wrong in the switch.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// This many of a thousand packets vanish, at most 999, from every host to every other but the spared one.
    Loss { per_mille: u32, spared: Host },
    /// Nothing from one host reaches the other; the way back stays.
    Cut { from: Host, to: Host },
}

impl Net {
    /// A switch with `hosts` hosts. `None`, and a loud word, where namespaces cannot be made.
    pub fn new(hosts: Host) -> Option<Net> {
        let missing: Vec<&str> =
            ["ip", "tc", "nft", "unshare", "setpriv"].into_iter().filter(|tool| !have_command(tool)).collect();
        if !have_root() || !missing.is_empty() {
            skipped(&format!("needs root and these commands: {missing:?}; scripts/install-deps --test installs them"));
            return None;
        }
        let made: io::Result<Vec<File>> = (0..=hosts).map(|_| network_namespace()).collect();
        let mut hosts = match made {
            Ok(made) => made,
            Err(error) => {
                skipped(&format!("no network namespace can be made here: {error}"));
                return None;
            }
        };
        let net = Net { switch: hosts.remove(0), hosts };
        net.connect();
        Some(net)
    }

    /// The host's address.
    pub fn addr(&self, host: Host) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, host)
    }

    /// Takes the calling thread into the host until the guard is dropped.
    pub fn enter(&self, host: Host) -> InNamespace {
        enter_namespace(&self.hosts[usize::from(host) - 1])
    }

    /// Does `work` in the host, on this thread.
    pub fn inside<T>(&self, host: Host, work: impl FnOnce() -> T) -> T {
        let _inside = self.enter(host);
        work()
    }

    /// Gives the host's link this rate both ways, such as `20mbit`.
    pub fn shape(&self, host: Host, rate: &str) {
        let shape = |device: &str| {
            let line = format!("qdisc replace dev {device} root tbf rate {rate} burst 256k latency 50ms\n");
            tool("tc", &["-batch", "-"], &line);
        };
        self.inside(host, || shape("eth0"));
        self.in_switch(|| shape(&port(host)));
    }

    /// Makes the host send packets one by one, as a network card's wire does: then each is lost alone, not 64 KiB at once.
    pub fn send_one_by_one(&self, host: Host) {
        self.inside(host, || tool("ip", &["link", "set", "eth0", "gso_max_segs", "1"], ""));
    }

    /// Has these faults from now on and no others.
    pub fn break_with(&self, faults: &[Fault]) {
        let rules: String = faults.iter().map(Fault::rule).collect();
        let table = format!(
            "table bridge faults\ndelete table bridge faults\n\
             table bridge faults {{ chain forward {{ type filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
        );
        self.in_switch(|| tool("nft", &["-f", "-"], &table));
    }

    /// Cuts every link between the two sides, both ways.
    pub fn partition(&self, one: &[Host], other: &[Host]) {
        let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
        let cuts: Vec<Fault> =
            pairs.flat_map(|(a, b)| [Fault::Cut { from: a, to: b }, Fault::Cut { from: b, to: a }]).collect();
        self.break_with(&cuts);
    }

    /// Mends everything but the rates.
    pub fn heal(&self) {
        self.break_with(&[]);
    }

    /// Bytes that have come in on the host's link, headers included.
    pub fn received(&self, host: Host) -> u64 {
        let table = self.inside(host, || std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc"));
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let first = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        first.expect("the first number of eth0's line is the bytes received")
    }

    fn in_switch<T>(&self, work: impl FnOnce() -> T) -> T {
        let _inside = enter_namespace(&self.switch);
        work()
    }

    fn connect(&self) {
        let numbers = || (1..=self.hosts.len()).map(|number| Host::try_from(number).expect("few hosts"));
        let cables = numbers().zip(&self.hosts).map(|(host, namespace)| {
            let (port, pid, fd) = (port(host), std::process::id(), namespace.as_raw_fd());
            format!(
                "link add {port} type veth peer name eth0 netns /proc/{pid}/fd/{fd}\nlink set {port} master br0 up\n"
            )
        });
        let lines: String = cables.collect();
        let lines = format!("link add br0 type bridge\nlink set br0 up\n{lines}");
        self.in_switch(|| tool("ip", &["-batch", "-"], &lines));
        for host in numbers() {
            let addr = self.addr(host);
            let lines = format!("link set lo up\naddr add {addr}/24 dev eth0\nlink set eth0 up\n");
            self.inside(host, || tool("ip", &["-batch", "-"], &lines));
        }
    }
}

impl Fault {
    fn rule(&self) -> String {
        match self {
            Fault::Loss { per_mille, spared } => {
                let spared = port(*spared);
                format!(
                    "iifname != \"{spared}\" oifname != \"{spared}\" numgen random mod 1000 < {per_mille} counter drop\n"
                )
            }
            Fault::Cut { from, to } => format!("iifname \"{}\" oifname \"{}\" counter drop\n", port(*from), port(*to)),
        }
    }
}

/// The switch's end of the host's cable.
fn port(host: Host) -> String {
    format!("p{host}")
}

/// Runs a tool that configures the namespace of the calling thread.
#[track_caller]
fn tool(program: &str, args: &[&str], input: &str) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let written = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a child of ours can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && written.is_ok(), "{program} {args:?} failed: {said}\ninput:\n{input}");
}

#[test]
fn hosts_hear_each_other_until_a_link_is_cut() {
    use std::net::UdpSocket;
    use std::time::Duration;

    let Some(net) = Net::new(2) else { return };
    let bind = |host| net.inside(host, || UdpSocket::bind((net.addr(host), 0)).expect("an address of ours"));
    let (one, two) = (bind(1), bind(2));
    let arrives = |from: &UdpSocket, to: &UdpSocket, patience: Duration| {
        to.set_read_timeout(Some(patience)).expect("a timeout");
        from.send_to(b"hello", to.local_addr().expect("bound")).expect("sent");
        to.recv(&mut [0; 16]).is_ok()
    };
    let long = shoal_testkit::PATIENCE;
    assert!(arrives(&one, &two, long) && arrives(&two, &one, long));
    net.break_with(&[Fault::Cut { from: 1, to: 2 }]);
    assert!(!arrives(&one, &two, Duration::from_millis(100)), "a cut link carries nothing");
    assert!(arrives(&two, &one, long), "the way back stays");
    net.heal();
    assert!(arrives(&one, &two, long));
    assert!(net.received(2) > 0);
    net.break_with(&[Fault::Loss { per_mille: 999, spared: 1 }]);
    assert!(arrives(&one, &two, long), "the spared host loses nothing");
    net.heal();
    net.shape(2, "20mbit");
    assert!(arrives(&one, &two, long));
}
