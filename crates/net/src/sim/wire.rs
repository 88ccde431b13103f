//! What is under way between hosts, and when it arrives: one queue of parcels in the order of their time, and the faults that
//! delay, hold or lose them.
//!
//! Knows addresses and parcels, no connections. Parcels of one sender to one receiver that must arrive do so in the order in which
//! they were sent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shoal_runtime::{clock, rng, task};
use tokio::sync::Notify;

/// How a simulated network treats what it carries.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Shortest way from one host to another. Default 0.2 ms. Time in a simulation moves in steps of 1 ms, so arrivals do too.
    pub latency_min: Duration,
    /// Longest way. Default 2 ms.
    pub latency_max: Duration,
    /// Share of packets that are lost: gossip is gone, a stream is delayed by `retransmit`. Default 0.001.
    pub loss: f64,
    /// How long a stream waits for what was lost. Default 30 ms.
    pub retransmit: Duration,
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig {
            latency_min: Duration::from_micros(200),
            latency_max: Duration::from_millis(2),
            loss: 0.001,
            retransmit: Duration::from_millis(30),
        }
    }
}

/// What a host sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Gossip packets, lost ones included.
    pub gossip_packets: u64,
    /// Their bytes, with the headers of UDP and IP.
    pub gossip_bytes: u64,
    /// Bytes of everything, headers included.
    pub bytes: u64,
}

/// Bytes of headers of every packet: IPv4 20, UDP 8, QUIC with its tag about 32.
const HEADER_BYTES: usize = 60;
/// Packets that may be lost which wait for a frozen host in its socket's buffer; more are lost.
const SOCKET_PACKETS: usize = 512;
/// Bytes in one packet.
const PACKET_BYTES: usize = 1400;

/// What happens to a parcel that cannot arrive now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// It is lost.
    None,
    /// It is sent again until it arrives.
    Repeat,
}

/// Something on its way.
pub(super) struct Parcel {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: usize,
    pub gossip: bool,
    /// Kind and content as the trace has them.
    pub digest: u64,
    pub care: Care,
    pub deliver: Act,
}

/// What is done on arrival.
pub(super) type Act = Box<dyn FnOnce() + Send>;

/// The network between all hosts; clones share it.
#[derive(Clone)]
pub(super) struct Wire(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    earlier: Notify,
}

struct State {
    config: NetConfig,
    began: Instant,
    number: u64,
    due: BinaryHeap<Reverse<Due>>,
    hosts: BTreeMap<SocketAddr, Host>,
    pairs: BTreeMap<(SocketAddr, SocketAddr), Pair>,
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    trace: u64,
}

/// What is known of one address. Faults outlive the process that had it.
struct Host {
    /// Number of the process that has the address now.
    process: Option<u64>,
    frozen: bool,
    /// Hosts of different sides do not hear each other.
    far: bool,
    delay: Duration,
    /// Bytes per second in either direction, if that is little.
    rate: Option<u64>,
    free_at: Instant,
    /// Packets that may be lost and wait in its socket's buffer.
    buffered: VecDeque<Parcel>,
    sent: Traffic,
}

/// One direction between two hosts, for parcels that must arrive.
struct Pair {
    last_at: Instant,
    held: VecDeque<Parcel>,
}

struct Due {
    at: Instant,
    number: u64,
    what: What,
}

enum What {
    Parcel(Parcel),
    Timer(Act),
}

impl Wire {
    /// A network without hosts, driven by the runtime this is called in for as long as that runs.
    pub(super) fn new(config: NetConfig) -> Wire {
        let state = State {
            config,
            began: clock::now(),
            number: 0,
            due: BinaryHeap::new(),
            hosts: BTreeMap::new(),
            pairs: BTreeMap::new(),
            cuts: BTreeSet::new(),
            trace: 0,
        };
        let wire = Wire(Arc::new(Shared { state: Mutex::new(state), earlier: Notify::new() }));
        task::spawn("sim-wire", wire.clone().run());
        wire
    }

    async fn run(self) {
        loop {
            self.deliver_due();
            let next = self.0.state.lock().due.peek().map(|Reverse(due)| due.at);
            let earlier = self.0.earlier.notified();
            match next {
                Some(at) => tokio::select! {
                    biased;
                    () = earlier => {}
                    () = clock::sleep_until(at) => {}
                },
                None => earlier.await,
            }
        }
    }

    /// A number that was never given before.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.0.state.lock();
        state.number += 1;
        state.number
    }

    /// Sends `parcel` on its way.
    pub(super) fn send(&self, parcel: Parcel) {
        let mut state = self.0.state.lock();
        state.note(&parcel);
        let lost = state.draws(state.config.loss);
        let open = state.is_open(parcel.from, parcel.to);
        match parcel.care {
            Care::None if lost || !open => {}
            Care::None => {
                let at = state.arrival(&parcel);
                self.push(&mut state, at, What::Parcel(parcel));
            }
            Care::Repeat if !open => state.pair(&parcel).held.push_back(parcel),
            Care::Repeat => {
                let again = if lost { state.config.retransmit } else { Duration::ZERO };
                let at = state.arrival(&parcel) + again;
                let pair = state.pair(&parcel);
                let at = pair.last_at.max(at);
                pair.last_at = at;
                self.push(&mut state, at, What::Parcel(parcel));
            }
        }
    }

    /// Does `act` after `delay`.
    pub(super) fn after(&self, delay: Duration, act: Act) {
        let mut state = self.0.state.lock();
        self.push(&mut state, clock::now() + delay, What::Timer(act));
    }

    fn push(&self, state: &mut State, at: Instant, what: What) {
        if state.due.peek().is_none_or(|Reverse(next)| at < next.at) {
            self.0.earlier.notify_one();
        }
        state.number += 1;
        let number = state.number;
        state.due.push(Reverse(Due { at, number, what }));
    }

    fn deliver_due(&self) {
        loop {
            let act = {
                let mut state = self.0.state.lock();
                if state.due.peek().is_none_or(|Reverse(due)| due.at > clock::now()) {
                    return;
                }
                let Some(Reverse(due)) = state.due.pop() else { return };
                match due.what {
                    What::Timer(act) => Some(act),
                    What::Parcel(parcel) => state.hand_over(parcel),
                }
            };
            // Without the lock: what is delivered may answer.
            if let Some(act) = act {
                act();
            }
        }
    }

    /// The number of the process at `addr`, if there is one.
    pub(super) fn process(&self, addr: SocketAddr) -> Option<u64> {
        self.0.state.lock().hosts.get(&addr)?.process
    }

    /// True if `to` can hear what `from` sends, and `from` can send.
    pub(super) fn hears(&self, to: SocketAddr, from: SocketAddr) -> bool {
        let state = self.0.state.lock();
        let sends = state.hosts.get(&from).is_some_and(|host| host.process.is_some() && !host.frozen);
        sends && state.is_connected(from, to)
    }

    /// A process takes `addr`, or it has none any more. What was held for the address goes to the new process.
    pub(super) fn occupy(&self, addr: SocketAddr, process: Option<u64>) {
        self.change(|state| {
            let host = state.host(addr);
            host.process = process;
            host.frozen = false;
            host.buffered.clear();
        });
    }

    /// What is sent to `addr` waits, and so does all it sends, until it is thawed.
    pub(super) fn freeze(&self, addr: SocketAddr, frozen: bool) {
        self.change(|state| state.host(addr).frozen = frozen);
    }

    /// `addr` lies on the far side of a broken network, or on the near one again.
    pub(super) fn part(&self, addr: SocketAddr, far: bool) {
        self.change(|state| state.host(addr).far = far);
    }

    /// Nothing that `from` sends reaches `to`.
    pub(super) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.change(|state| {
            state.cuts.insert((from, to));
        });
    }

    /// Every path is whole again.
    pub(super) fn heal(&self) {
        self.change(|state| {
            state.cuts.clear();
            state.hosts.values_mut().for_each(|host| host.far = false);
        });
    }

    /// Everything to and from `addr` takes `delay` longer and passes at most `rate` bytes a second.
    pub(super) fn slow(&self, addr: SocketAddr, delay: Duration, rate: Option<u64>) {
        self.change(|state| {
            let host = state.host(addr);
            (host.delay, host.rate) = (delay, rate);
        });
    }

    /// The share of packets that are lost from now on.
    pub(super) fn lose(&self, share: f64) {
        self.0.state.lock().config.loss = share;
    }

    /// What `addr` has sent so far.
    pub(super) fn sent(&self, addr: SocketAddr) -> Traffic {
        self.0.state.lock().hosts.get(&addr).map_or_else(Traffic::default, |host| host.sent)
    }

    /// Fingerprint of every parcel so far: its time, way and content.
    pub(super) fn trace(&self) -> u64 {
        self.0.state.lock().trace
    }

    /// Changes what is possible, and sends what was held and can go now.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock();
        change(&mut state);
        for parcel in state.release() {
            let again = state.config.retransmit.mul_f64(1.0 + unit());
            let at = state.arrival(&parcel) + again;
            let at = match parcel.care {
                Care::None => at,
                Care::Repeat => {
                    let pair = state.pair(&parcel);
                    pair.last_at = pair.last_at.max(at);
                    pair.last_at
                }
            };
            self.push(&mut state, at, What::Parcel(parcel));
        }
    }
}

impl State {
    fn host(&mut self, addr: SocketAddr) -> &mut Host {
        let began = self.began;
        self.hosts.entry(addr).or_insert_with(|| Host {
            process: None,
            frozen: false,
            far: false,
            delay: Duration::ZERO,
            rate: None,
            free_at: began,
            buffered: VecDeque::new(),
            sent: Traffic::default(),
        })
    }

    fn pair(&mut self, parcel: &Parcel) -> &mut Pair {
        let began = self.began;
        let key = (parcel.from, parcel.to);
        self.pairs.entry(key).or_insert_with(|| Pair { last_at: began, held: VecDeque::new() })
    }

    fn note(&mut self, parcel: &Parcel) {
        let time = clock::now().saturating_duration_since(self.began).as_micros() as u64;
        let way = (u64::from(parcel.from.port()) << 16) | u64::from(parcel.to.port());
        for word in [time, way, host_bits(parcel.from), host_bits(parcel.to), parcel.bytes as u64, parcel.digest] {
            self.trace = (self.trace.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let packets = parcel.bytes.div_ceil(PACKET_BYTES).max(1);
        let bytes = (parcel.bytes + packets * HEADER_BYTES) as u64;
        let gossip = parcel.gossip;
        let sent = &mut self.host(parcel.from).sent;
        sent.bytes += bytes;
        if gossip {
            sent.gossip_packets += 1;
            sent.gossip_bytes += bytes;
        }
    }

    fn draws(&self, share: f64) -> bool {
        share > 0.0 && unit() < share
    }

    /// True if nothing lies between the two, whether or not they run.
    fn is_connected(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let far = |addr| self.hosts.get(&addr).is_some_and(|host| host.far);
        far(from) == far(to) && (self.cuts.is_empty() || !self.cuts.contains(&(from, to)))
    }

    /// True if what `from` sends now arrives at `to`'s socket.
    fn is_open(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let runs = |addr| self.hosts.get(&addr).is_some_and(|host| host.process.is_some());
        runs(from) && runs(to) && self.is_connected(from, to)
    }

    /// When a parcel that leaves now arrives.
    fn arrival(&mut self, parcel: &Parcel) -> Instant {
        let NetConfig { latency_min, latency_max, .. } = self.config;
        let mut at = clock::now() + latency_min + latency_max.saturating_sub(latency_min).mul_f64(unit());
        for addr in [parcel.from, parcel.to] {
            let host = self.host(addr);
            at += host.delay;
            if let Some(rate) = host.rate {
                let takes = Duration::from_secs_f64(parcel.bytes as f64 / rate.max(1) as f64);
                host.free_at = host.free_at.max(at) + takes;
                at = host.free_at;
            }
        }
        at
    }

    /// What to do with a parcel whose time has come.
    fn hand_over(&mut self, parcel: Parcel) -> Option<Act> {
        let host = self.host(parcel.to);
        if host.process.is_some() && !host.frozen {
            return Some(parcel.deliver);
        }
        match parcel.care {
            Care::Repeat => self.pair(&parcel).held.push_back(parcel),
            Care::None if host.process.is_some() && host.buffered.len() < SOCKET_PACKETS => {
                host.buffered.push_back(parcel);
            }
            Care::None => {}
        }
        None
    }

    /// What was held and can go on, in the order in which it was sent.
    fn release(&mut self) -> Vec<Parcel> {
        let mut released = Vec::new();
        let open: Vec<_> = self.pairs.iter().filter(|(_, pair)| !pair.held.is_empty()).map(|(key, _)| *key).collect();
        for (from, to) in open {
            let thawed = self.hosts.get(&to).is_some_and(|host| !host.frozen);
            if thawed
                && self.is_open(from, to)
                && let Some(pair) = self.pairs.get_mut(&(from, to))
            {
                released.extend(pair.held.drain(..));
            }
        }
        for host in self.hosts.values_mut().filter(|host| !host.frozen) {
            released.extend(host.buffered.drain(..));
        }
        released
    }
}

/// Uniform in `0.0..1.0`.
fn unit() -> f64 {
    (rng::random_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The address as a number.
fn host_bits(addr: SocketAddr) -> u64 {
    match addr.ip() {
        std::net::IpAddr::V4(ip) => u64::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip) as u64,
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.number == other.number
    }
}
impl Eq for Due {}
