//! The one task that owns a node's membership: everything that happens comes to it as an event.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shoal_net::Endpoint;
use shoal_runtime::{clock, rng, task};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::damping::Damping;
use crate::discovery::Rounds;
use crate::member::Member;
use crate::membership::{Event, Membership};
use crate::metrics::ClusterMetrics;
use crate::pace::Pace;
use crate::remembered::Remembered;
use crate::seeds::{self, Answer, Asked, SEEDS_ASKED_MAX, Seed, sample};
use crate::timing::Timing;
use crate::view::{MEMBERS_MAX, ViewPublisher};

/// Packets taken before timers get their turn.
const BATCH: usize = 256;
/// Shortest time between two published views: a burst of joins costs one ring, not one each.
const PUBLISH_GAP: Duration = Duration::from_millis(20);
/// Shortest time between two writes of the remembered members.
const SAVE_GAP: Duration = Duration::from_secs(1);
/// Remembered addresses asked in one round while alone.
const REMEMBERED_ASKED: usize = 8;
/// Remembered addresses of members that are gone asked in one round in company: the protocol tries the dead it knows of, but those
/// of a former run it has never heard of.
const GONE_ASKED: usize = 2;
/// Goodbyes sent while leaving.
const GOODBYES: u32 = 3;
/// Longest sleep, so that a stall is noticed as one.
const NAP_MAX: Duration = Duration::from_secs(1);

/// Rejoins in a row that a bad network does not explain.
const REJOINS_SUSPICIOUS: u32 = 5;

/// What other tasks ask of the owner.
pub(crate) enum Request {
    /// Tell the ring that this node will leave, then say so.
    SetLeaving(oneshot::Sender<()>),
    /// Leave, then say so.
    Leave(oneshot::Sender<()>),
}

pub(crate) struct Owner {
    membership: Membership,
    rounds: Rounds,
    pace: Pace,
    started: Instant,
    timing: Timing,
    endpoint: Endpoint,
    publisher: ViewPublisher,
    metrics: ClusterMetrics,
    seeds: Vec<Seed>,
    /// Seeds that did not answer when last asked; each is warned about once.
    silent: HashSet<Seed>,
    /// Addresses of members that went down, until they come up again.
    dead: HashSet<SocketAddr>,
    /// Answers of the seeds asked last; ends with the last of them.
    round: Option<mpsc::Receiver<Asked>>,
    /// Members that are not published yet.
    unpublished: Option<Vec<Arc<Member>>>,
    publish_after: Instant,
    state_dir: Option<PathBuf>,
    remembered: Remembered,
    saved: Remembered,
    saving: Option<JoinHandle<()>>,
    save_after: Instant,
    refused: u64,
}

/// What woke the owner.
enum Woken {
    Gossip(Bytes),
    Request(Option<Request>),
    /// One seed's answer, or the end of the round.
    Asked(Option<Asked>),
    Time,
}

impl Owner {
    #[expect(clippy::too_many_arguments, reason = "called once, by the constructor of the public handle")]
    pub(crate) fn new(
        me: Member,
        seeds: Vec<Seed>,
        state_dir: Option<PathBuf>,
        remembered: Remembered,
        timing: Timing,
        endpoint: Endpoint,
        publisher: ViewPublisher,
        metrics: ClusterMetrics,
    ) -> Owner {
        let now = clock::now();
        let ago = clock::unix_now().saturating_sub(Duration::from_secs(remembered.penalty_at));
        let penalty = f64::from(remembered.penalty_milli) / 1000.0;
        let mut damping = Damping::new(timing.flap_half_life, penalty, ago);
        if remembered.incarnation > 0 {
            damping.returned(Duration::ZERO);
        }
        Owner {
            membership: Membership::new(me, &timing, damping, rng::random_u64()),
            rounds: Rounds::new(&timing),
            pace: Pace::default(),
            started: now,
            timing,
            endpoint,
            publisher,
            metrics,
            seeds,
            silent: HashSet::new(),
            dead: HashSet::new(),
            round: None,
            unpublished: None,
            publish_after: now,
            state_dir,
            saved: Remembered::default(),
            remembered,
            saving: None,
            save_after: now,
            refused: 0,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut gossip: mpsc::Receiver<Bytes>,
        mut requests: mpsc::Receiver<Request>,
        settled: watch::Sender<bool>,
    ) {
        self.remember_me(Duration::ZERO);
        if self.membership.me().damped {
            self.metrics.happened(&Event::Damped(true));
            report(&Event::Damped(true));
        }
        loop {
            let planned = self.next_wake();
            let woken = self.wait(planned, &mut gossip, &mut requests).await;
            let now = self.pace.wake(clock::now() - self.started, planned - self.started);
            match woken {
                Woken::Gossip(packet) => {
                    self.membership.receive(now, &packet);
                    for _ in 1..BATCH {
                        let Ok(packet) = gossip.try_recv() else { break };
                        self.membership.receive(now, &packet);
                    }
                }
                Woken::Asked(Some(asked)) => {
                    if self.heard(now, asked) {
                        settled.send_replace(true);
                    }
                }
                Woken::Asked(None) => {
                    self.round = None;
                    settled.send_replace(true);
                }
                Woken::Request(None) => return,
                Woken::Request(Some(Request::SetLeaving(done))) => {
                    self.membership.set_leaving(now);
                    self.flush(now);
                    self.publish();
                    let _ = done.send(());
                }
                Woken::Request(Some(Request::Leave(done))) => {
                    self.leave(now).await;
                    let _ = done.send(());
                    return;
                }
                Woken::Time => {}
            }
            // After the packets, so that an answer that is already here counts before its deadline does.
            self.membership.tick(now);
            self.flush(now);
            self.ask_if_due(now);
            self.publish_if_due();
            self.save_if_due();
        }
    }

    fn next_wake(&self) -> Instant {
        let mut deadline = self.rounds.next();
        if self.round.is_some() {
            deadline = Duration::MAX;
        }
        if let Some(next) = self.membership.next_deadline() {
            deadline = deadline.min(next);
        }
        let nap = self.pace.real(deadline).min(clock::now() - self.started + NAP_MAX);
        let mut wake = self.started + nap;
        if self.unpublished.is_some() {
            wake = wake.min(self.publish_after);
        }
        wake
    }

    async fn wait(
        &mut self,
        until: Instant,
        gossip: &mut mpsc::Receiver<Bytes>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Woken {
        let asked = async {
            match &mut self.round {
                Some(round) => round.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            request = requests.recv() => Woken::Request(request),
            asked = asked => Woken::Asked(asked),
            Some(packet) = gossip.recv() => Woken::Gossip(packet),
            () = clock::sleep_until(until) => Woken::Time,
        }
    }

    /// Carries out what the protocol decided.
    fn flush(&mut self, now: Duration) {
        for event in self.membership.take_events() {
            self.metrics.happened(&event);
            report(&event);
            self.forget_connections(&event);
            if matches!(event, Event::Rejoined(_) | Event::Damped(_)) {
                self.remember_me(now);
            }
        }
        while let Some((to, packet)) = self.membership.poll_send() {
            self.endpoint.gossip(to, packet);
        }
        let refused = self.membership.refused();
        self.metrics.gossip_refused(refused - self.refused);
        self.refused = refused;
        if let Some(members) = self.membership.take_members() {
            if members.len() <= 1 && self.publisher.current().members.len() > 1 {
                self.rounds.lost_everyone(now);
            }
            self.unpublished = Some(members);
        }
    }

    /// A connection to a process that is gone would swallow what is sent to the next one, and the failures of a dead address
    /// would delay the first words to a living one.
    fn forget_connections(&mut self, event: &Event) {
        let addr = match event {
            Event::Down(member) => {
                if self.dead.len() < MEMBERS_MAX {
                    self.dead.insert(member.addr);
                }
                member.addr
            }
            Event::Up(member) if self.dead.remove(&member.addr) => member.addr,
            Event::Renewed(member) => member.addr,
            Event::Up(_) | Event::Changed(_) | Event::Damped(_) | Event::Rejoined(_) => return,
        };
        self.endpoint.forget(addr);
    }

    fn publish_if_due(&mut self) {
        if clock::now() >= self.publish_after {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let Some(members) = self.unpublished.take() else { return };
        let Some(view) = self.publisher.publish(members) else { return };
        self.publish_after = clock::now() + PUBLISH_GAP;
        self.metrics.published(&view);
        tracing::debug!(version = view.version, epoch = view.epoch(), members = view.members.len(), "ring view");
        let me = self.membership.me();
        let others = view.members.iter().filter(|member| member.id != me.id).cloned().collect();
        self.remembered.now(others);
    }

    /// Notes what the next run of this node must know of this one.
    fn remember_me(&mut self, now: Duration) {
        self.remembered.incarnation = self.membership.me().incarnation;
        self.remembered.penalty_milli = (self.membership.penalty(now) * 1000.0) as u32;
        self.remembered.penalty_at = clock::unix_now().as_secs();
    }

    fn save_if_due(&mut self) {
        let Some(dir) = &self.state_dir else { return };
        let now = clock::now();
        let busy = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        if self.remembered == self.saved || busy || now < self.save_after {
            return;
        }
        self.save_after = now + SAVE_GAP;
        self.saved = self.remembered.clone();
        let (remembered, dir) = (self.saved.clone(), dir.clone());
        self.saving = Some(task::spawn("cluster-save", async move {
            if let Err(error) = task::blocking("cluster-save", move || remembered.save(&dir)).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "members are not remembered");
            }
        }));
    }

    fn ask_if_due(&mut self, now: Duration) {
        if self.round.is_some() || self.rounds.next() > now {
            return;
        }
        let view = self.publisher.current();
        let alone = view.members.len() <= 1;
        self.rounds.begun(now, alone, (rng::random_u64() >> 11) as f64 / (1u64 << 53) as f64);
        let mut targets = sample(&self.seeds, SEEDS_ASKED_MAX);
        let gone = self.remembered.gone(&view.members);
        let asked = sample(&gone, if alone { REMEMBERED_ASKED } else { GONE_ASKED });
        targets.extend(asked.into_iter().map(|addr| Seed::Host(addr.to_string())));
        if targets.is_empty() {
            return;
        }
        let mut known: Vec<SocketAddr> = view.members.iter().map(|member| member.addr).collect();
        known.extend([self.membership.me().addr, self.endpoint.local_addr()]);
        let (endpoint, limit) = (self.endpoint.clone(), self.timing.call_timeout);
        let (out, answers) = mpsc::channel(targets.len());
        task::spawn("cluster-ask", async move { seeds::ask_all(&endpoint, targets, &known, limit, out).await });
        self.round = Some(answers);
    }

    /// Takes one seed's answer; true if it led to a ring.
    fn heard(&mut self, now: Duration, Asked { seed, answer }: Asked) -> bool {
        match answer {
            Answer::Known => {}
            Answer::Members(members) => {
                if self.silent.remove(&seed) {
                    tracing::info!(%seed, "seed answers again");
                }
                self.membership.meet(now, &members);
                return true;
            }
            Answer::Failed(why) if !self.seeds.contains(&seed) => {
                tracing::debug!(node = %seed, why, "remembered node does not answer");
            }
            Answer::Failed(why) => {
                if self.silent.insert(seed.clone()) {
                    tracing::warn!(%seed, why, "seed does not answer; will keep trying");
                }
            }
        }
        false
    }

    async fn leave(&mut self, now: Duration) {
        tracing::info!("leaving the ring");
        self.membership.leave(now);
        self.flush(now);
        self.publish();
        for _ in 0..GOODBYES {
            clock::sleep(self.timing.leave_for / GOODBYES).await;
            self.membership.say_goodbye_again();
            self.flush(now);
        }
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
    }
}

fn report(event: &Event) {
    match event {
        Event::Up(member) => {
            tracing::info!(node = %member.id, name = member.name, addr = %member.addr, "node joined the ring")
        }
        Event::Down(member) => {
            tracing::info!(node = %member.id, name = member.name, addr = %member.addr, "node left the ring")
        }
        Event::Renewed(member) => {
            tracing::info!(node = %member.id, name = member.name, addr = %member.addr, "node began a new life");
        }
        Event::Changed(member) => {
            let Member { id, name, leaving, damped, .. } = member.as_ref();
            tracing::info!(node = %id, name, leaving, damped, "node describes itself anew");
        }
        Event::Damped(true) => {
            tracing::warn!("this node came and went too often: it owns no blocks until it has been calm")
        }
        Event::Damped(false) => tracing::info!("this node has been calm: it owns blocks again"),
        Event::Rejoined(times) if *times >= REJOINS_SUSPICIOUS => {
            tracing::error!(
                times,
                "the ring declares this node dead again and again: another process probably uses the same node id; \
                 give each its own cache directories"
            );
        }
        Event::Rejoined(times) => tracing::warn!(times, "the ring had declared this node dead; rejoined"),
    }
}
