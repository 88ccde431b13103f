//! A simulated network of nodes under virtual time. Every run with the same seed is the same run.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use shoal_types::NodeId;

use super::{Event, Membership};
use crate::damping::Damping;
use crate::discovery::Rounds;
use crate::member::Member;
use crate::pace::Pace;
use crate::remembered::Remembered;
use crate::timing::Timing;

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What the wires do to packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wires {
    /// Chance that a packet vanishes.
    pub(super) loss: f64,
    /// Chance that a packet comes twice.
    pub(super) double: f64,
    pub(super) delay_min: Duration,
    /// Well above `delay_min`, packets overtake each other.
    pub(super) delay_max: Duration,
}

pub(super) const GOOD: Wires =
    Wires { loss: 0.0, double: 0.0, delay_min: Duration::from_micros(200), delay_max: ms(1) };
pub(super) const ROUGH: Wires = Wires { loss: 0.2, double: 0.1, delay_min: ms(1), delay_max: ms(60) };

enum Load {
    Packet(Bytes),
    /// A request for the view, by the node at this index.
    Ask(usize),
    Answer(Vec<Arc<Member>>),
}

struct Wire {
    at: Duration,
    number: u64,
    from: usize,
    to: SocketAddr,
    load: Load,
}

impl Ord for Wire {
    fn cmp(&self, other: &Wire) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
impl PartialOrd for Wire {
    fn partial_cmp(&self, other: &Wire) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Wire {
    fn eq(&self, other: &Wire) -> bool {
        self.number == other.number
    }
}
impl Eq for Wire {}

/// One process.
pub(super) struct Node {
    pub(super) membership: Membership,
    /// Ascending by id. Not a `View`: building rings is most of the cost of one, and nothing here asks for owners.
    pub(super) view: Vec<Arc<Member>>,
    pub(super) events: Vec<(Duration, Event)>,
    addr: SocketAddr,
    alive: bool,
    seeds: Vec<SocketAddr>,
    /// What it would find on its disk when it starts again; kept in its memory only as the owner task does it.
    remembered: Remembered,
    rounds: Rounds,
    pace: Pace,
    started: Duration,
    /// Cannot run before this time.
    asleep_until: Duration,
    /// Loses what comes in its sleep.
    deaf: bool,
    /// Nodes of different sides cannot hear each other.
    side: u8,
    /// Its entry in [`Sim::wakes`].
    wake: Option<Duration>,
}

impl Node {
    pub(super) fn forget_seeds(&mut self) {
        self.seeds.clear();
    }

    /// When it wants to run next, in simulation time.
    fn next(&self) -> Duration {
        let deadline = self.membership.next_deadline().unwrap_or(Duration::MAX).min(self.rounds.next());
        self.started.saturating_add(self.pace.real(deadline))
    }

    /// Who of its view owns blocks, as `View` would decide.
    pub(super) fn owners(&self) -> usize {
        crate::view::owning(&self.view).len()
    }

    fn clock(&mut self, now: Duration) -> Duration {
        let planned = self.next().saturating_sub(self.started);
        self.pace.wake(now - self.started, planned)
    }
}

pub(super) struct Sim {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Node>,
    pub(super) wires: Wires,
    /// Gossip sent so far, bytes.
    pub(super) gossip_bytes: u64,
    timing: Timing,
    flying: BinaryHeap<Reverse<Wire>>,
    /// When each living node wants to run next.
    wakes: BTreeSet<(Duration, usize)>,
    /// The newest process at each address.
    at: HashMap<SocketAddr, usize>,
    rng: SmallRng,
    number: u64,
    /// Views that changed so far.
    changes: u64,
}

impl Sim {
    pub(super) fn new(seed: u64, wires: Wires) -> Sim {
        Sim {
            now: Duration::ZERO,
            nodes: Vec::new(),
            wires,
            gossip_bytes: 0,
            timing: Timing::default(),
            flying: BinaryHeap::new(),
            wakes: BTreeSet::new(),
            at: HashMap::new(),
            rng: SmallRng::seed_from_u64(seed),
            number: 0,
            changes: 0,
        }
    }

    /// `n` nodes that know node 0 as their seed, started within half a second and run until every view is complete.
    pub(super) fn ring(seed: u64, n: usize, wires: Wires) -> Sim {
        let mut sim = Sim::new(seed, wires);
        for index in 0..n {
            sim.start(index as u16, addr(index as u16), 1, &[addr(0)]);
            let gap = sim.rng.random_range(0..500 / n as u64 + 1);
            sim.run(ms(gap));
        }
        sim.run_until(secs(60), Sim::complete).unwrap_or_else(|| panic!("seed {seed}: {n} nodes did not meet"));
        sim
    }

    pub(super) fn start(&mut self, id: u16, addr: SocketAddr, incarnation: u64, seeds: &[SocketAddr]) -> usize {
        let damping = Damping::new(self.timing.flap_half_life, 0.0, Duration::ZERO);
        self.start_with(member(id, addr, incarnation), seeds.to_vec(), damping, Remembered::default())
    }

    /// Starts a killed node again at its address, with what its state directory holds.
    pub(super) fn restart(&mut self, index: usize) -> usize {
        let node = &self.nodes[index];
        assert!(!node.alive, "it runs");
        let Remembered { penalty_milli, penalty_at, incarnation, .. } = node.remembered;
        let penalty = f64::from(penalty_milli) / 1000.0;
        let ago = self.now.saturating_sub(Duration::from_secs(penalty_at));
        let mut damping = Damping::new(self.timing.flap_half_life, penalty, ago);
        damping.returned(Duration::ZERO);
        let me = Member::clone(node.membership.me());
        let me = Member { incarnation: incarnation + 1, life: incarnation + 1, leaving: false, ..me };
        self.start_with(me, node.seeds.clone(), damping, node.remembered.clone())
    }

    fn start_with(&mut self, me: Member, seeds: Vec<SocketAddr>, damping: Damping, remembered: Remembered) -> usize {
        let index = self.nodes.len();
        let before = self.at.insert(me.addr, index);
        let side = before.map_or(0, |before| self.nodes[before].side);
        self.nodes.push(Node {
            addr: me.addr,
            membership: Membership::new(me, &self.timing, damping, self.rng.random()),
            view: Vec::new(),
            events: Vec::new(),
            alive: true,
            seeds,
            remembered,
            rounds: Rounds::new(&self.timing),
            pace: Pace::default(),
            started: self.now,
            asleep_until: Duration::ZERO,
            deaf: false,
            side,
            wake: None,
        });
        self.remember(index, Duration::ZERO);
        self.flush(index);
        index
    }

    fn remember(&mut self, index: usize, clock: Duration) {
        let node = &mut self.nodes[index];
        node.remembered.incarnation = node.membership.me().incarnation;
        node.remembered.penalty_milli = (node.membership.penalty(clock) * 1000.0) as u32;
        node.remembered.penalty_at = self.now.as_secs();
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].alive = false;
        self.reschedule(index);
    }

    pub(super) fn stall(&mut self, index: usize, time: Duration) {
        self.nodes[index].asleep_until = self.now + time;
        self.reschedule(index);
    }

    /// [`Sim::stall`] for so long that the socket's buffer overflows: what is sent meanwhile is lost.
    pub(super) fn stall_deaf(&mut self, index: usize, time: Duration) {
        self.stall(index, time);
        self.nodes[index].deaf = true;
    }

    /// Cuts the nodes at these indexes off from the others.
    pub(super) fn cut(&mut self, indexes: &[usize]) {
        for &index in indexes {
            self.nodes[index].side = 1;
        }
    }

    pub(super) fn heal(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.side = 0);
    }

    pub(super) fn leave(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let clock = node.clock(now);
        node.membership.leave(clock);
        self.flush(index);
        for _ in 0..3 {
            self.run(ms(100));
            self.nodes[index].membership.say_goodbye_again();
            self.flush(index);
        }
        self.kill(index);
    }

    pub(super) fn set_leaving(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let clock = node.clock(now);
        node.membership.set_leaving(clock);
        self.flush(index);
    }

    /// Feeds a packet to a node as if it came from the network.
    pub(super) fn inject(&mut self, index: usize, packet: Bytes) {
        let to = self.nodes[index].addr;
        self.number += 1;
        self.flying.push(Reverse(Wire {
            at: self.now,
            number: self.number,
            from: index,
            to,
            load: Load::Packet(packet),
        }));
    }

    pub(super) fn is_alive(&self, index: usize) -> bool {
        self.nodes[index].alive
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.alive)
    }

    /// True if every living node's view holds exactly the living nodes in their current lives.
    pub(super) fn complete(&self) -> bool {
        let mut all: Vec<&Arc<Member>> = self.living().map(|node| node.membership.me()).collect();
        all.sort_by_key(|member| member.id);
        self.living().all(|node| node.view.iter().eq(all.iter().copied()))
    }

    /// True if no living node's view holds `id`.
    pub(super) fn forgotten(&self, id: u16) -> bool {
        self.living().all(|node| node.view.iter().all(|member| member.id != node_id(id)))
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until `done` or for `time`; gives the time it took if `done`.
    pub(super) fn run_until(&mut self, time: Duration, done: impl Fn(&Sim) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start + time;
        // Looking is what a simulated step costs most: in a large ring it is done only now and then.
        let look_every = if self.nodes.len() > 100 { ms(20) } else { Duration::ZERO };
        let (mut looked_at, mut look_next) = (None, self.now);
        loop {
            // Only a changed view can make a difference.
            if self.now >= look_next && looked_at.replace(self.changes) != Some(self.changes) {
                if done(self) {
                    return Some(self.now - start);
                }
                look_next = self.now + look_every;
            }
            let next = self.next_event();
            if next > end {
                self.now = end;
                return (looked_at != Some(self.changes) && done(self)).then_some(time);
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn next_event(&self) -> Duration {
        let wire = self.flying.peek().map_or(Duration::MAX, |Reverse(wire)| wire.at);
        let wake = self.wakes.first().map_or(Duration::MAX, |(at, _)| *at);
        wire.min(wake)
    }

    fn step(&mut self) {
        // Packets before timers, as the owner task does it.
        if let Some(Reverse(wire)) = self.flying.peek()
            && wire.at <= self.now
        {
            let Some(Reverse(wire)) = self.flying.pop() else { return };
            self.deliver(wire);
            return;
        }
        while let Some(&(at, index)) = self.wakes.first()
            && at <= self.now
        {
            self.wake(index);
        }
    }

    fn reschedule(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let next = node.alive.then(|| node.next().max(node.asleep_until));
        if let Some(before) = std::mem::replace(&mut node.wake, next) {
            self.wakes.remove(&(before, index));
        }
        if let Some(next) = next {
            self.wakes.insert((next, index));
        }
    }

    fn deliver(&mut self, wire: Wire) {
        let now = self.now;
        let to = self.at.get(&wire.to).copied().filter(|&to| self.nodes[to].alive);
        let Some(to) = to else { return };
        if self.nodes[to].side != self.nodes[wire.from].side {
            return;
        }
        if self.nodes[to].asleep_until > now && self.nodes[to].deaf {
            return;
        }
        if self.nodes[to].asleep_until > now {
            // Waits in the socket; first in line when the process runs again.
            let at = self.nodes[to].asleep_until;
            self.flying.push(Reverse(Wire { at, ..wire }));
            return;
        }
        let clock = self.nodes[to].clock(now);
        match wire.load {
            Load::Packet(packet) => self.nodes[to].membership.receive(clock, &packet),
            Load::Answer(members) => self.nodes[to].membership.meet(clock, &members),
            Load::Ask(from) => {
                let members = self.nodes[to].view.clone();
                let back = self.nodes[from].addr;
                self.send(to, back, Load::Answer(members));
            }
        }
        self.flush(to);
    }

    fn wake(&mut self, index: usize) {
        let now = self.now;
        let chance = self.rng.random();
        let node = &mut self.nodes[index];
        let clock = node.clock(now);
        node.membership.tick(clock);
        if node.rounds.next() <= clock {
            let alone = node.view.len() <= 1;
            node.rounds.begun(clock, alone, chance);
            let known: Vec<SocketAddr> = node.view.iter().map(|member| member.addr).collect();
            let mut strange: Vec<SocketAddr> =
                node.seeds.iter().copied().filter(|seed| *seed != node.addr && !known.contains(seed)).collect();
            let mut gone = node.remembered.gone(&node.view);
            gone.shuffle(&mut self.rng);
            strange.extend(gone.into_iter().take(if alone { 8 } else { 2 }));
            for seed in strange {
                self.send(index, seed, Load::Ask(index));
            }
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        while let Some((to, packet)) = self.nodes[index].membership.poll_send() {
            self.send(index, to, Load::Packet(packet));
        }
        let (now, events) = (self.now, self.nodes[index].membership.take_events());
        if events.iter().any(|event| matches!(event, Event::Rejoined(_) | Event::Damped(_))) {
            let clock = self.nodes[index].clock(now);
            self.remember(index, clock);
        }
        let node = &mut self.nodes[index];
        node.events.extend(events.into_iter().map(|event| (now, event)));
        if let Some(mut members) = node.membership.take_members() {
            members.sort_by_key(|member| member.id);
            let me = node.membership.me().id;
            node.remembered.now(members.iter().filter(|member| member.id != me).cloned().collect());
            node.view = members;
            self.changes += 1;
        }
        self.reschedule(index);
    }

    fn send(&mut self, from: usize, to: SocketAddr, load: Load) {
        if let Load::Packet(packet) = &load {
            self.gossip_bytes += packet.len() as u64;
        }
        let copies = match &load {
            // Requests run over a reliable stream.
            Load::Ask(_) | Load::Answer(_) => 1,
            Load::Packet(_) if self.rng.random_bool(self.wires.loss) => 0,
            Load::Packet(_) if self.rng.random_bool(self.wires.double) => 2,
            Load::Packet(_) => 1,
        };
        let mut loads = vec![load];
        if copies == 2
            && let Load::Packet(packet) = &loads[0]
        {
            let again = Load::Packet(packet.clone());
            loads.push(again);
        }
        for load in loads.into_iter().take(copies) {
            self.number += 1;
            let delay = self.rng.random_range(self.wires.delay_min..=self.wires.delay_max);
            self.flying.push(Reverse(Wire { at: self.now + delay, number: self.number, from, to, load }));
        }
    }
}

pub(super) fn addr(index: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7000 + index))
}

/// 16 times the number, if that is small.
pub(super) fn node_id(id: u16) -> NodeId {
    let [low, high] = id.to_le_bytes();
    let mut bytes = [low; 16];
    bytes[15] ^= high;
    NodeId(bytes)
}

pub(super) fn member(id: u16, addr: SocketAddr, incarnation: u64) -> Member {
    let member = Member::new(node_id(id), &format!("node-{id}"), addr);
    Member { capacity: 1 << 40, incarnation, life: incarnation, ..member }
}
