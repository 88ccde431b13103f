//! Places asked for the same bytes while the first one is late: whoever gives bytes first goes on alone.
//!
//! Each place is a lane. A lane that is late is looked into: its node is asked, by a request of its own that costs next to nothing,
//! whether it is there and holds the block. Three things can be wrong, and each is answered in its own way:
//!
//! * it does not say anything: it **hangs**. The next place is asked at once, whatever that costs;
//! * it is there and holds the block: it is **stuck**. The next owner is asked for what it holds itself, within the allowance; only
//!   after a longer silence is anyone asked who may have to go to the origin;
//! * it is there and does not hold the block: it is fetching, and nobody else can have it sooner. It is waited for, and looked
//!   into again: going to the origin too would cost the object store a second read of every cold block. Only when that takes far
//!   longer than origins take, the next owner is asked too, within the allowance.
//!
//! A body that comes many times slower than nodes usually give is **trickling**: like stuck, but it goes on meanwhile, and the next
//! place after the other owners is the origin itself, since the next owner would ask this very node.
//!
//! A lane that lost is dropped, which tells its peer to stop.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use shoal_cluster::Member;
use shoal_net::NetError;
use shoal_runtime::clock;
use shoal_runtime::ranked::RankedPermit;
use shoal_types::{BlockRange, Class, Tier};
use shoal_wire::{GetRequest, Request, Response};

use crate::arrival::Arrival;
use crate::error::CacheError;
use crate::flight::Flight;
use crate::intake::Intake;
use crate::lane::{Ask, Fault, Lane, LaneEvent, Opened, Opening, Place, State, believe, open};
use crate::last_resort::LastResort;
use crate::latency::{Wait, per_mib};
use crate::metrics::{HedgeOutcome, SkipReason};
use crate::nodes::{Nodes, Plan, Skip};
use crate::origin::{self, OriginBody};
use crate::standing::{Outcome, Standing};

/// Places asked for the same bytes at once, at most.
const LANES_MAX: usize = 3;
/// Bodies of fewer bytes say little about a node's pace.
const PACE_BYTES_MIN: u32 = 256 << 10;
/// Times that work which is not urgent waits for a busy node, and how long each time at most.
const BUSY_WAITS: u32 = 3;
const BUSY_WAIT_MAX: Duration = Duration::from_millis(500);
/// The same if the node gives no advice.
const BUSY_WAIT: Duration = Duration::from_millis(50);
/// Bytes in flight are given back in steps of this size, so that a stream of packets is not a stream of budgeting.
const ROOM_STEP: u32 = 256 << 10;

/// By what right a second place is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Within the bytes that may be asked for twice.
    Allowance,
    /// Whatever it costs: the first place will not answer.
    Need,
}

/// What a node says of a block it is late with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Hung,
    Holds,
    Fetching,
}

struct Probe<'a> {
    node: Arc<Member>,
    sent: Instant,
    verdict: BoxFuture<'a, Verdict>,
}

enum Event {
    Lane(usize, LaneEvent),
    Judged(Verdict),
    Look,
}

/// A place that is to be asked first, with room for its bytes.
pub(crate) struct First {
    node: Arc<Member>,
    standing: Arc<Standing>,
    bound: Duration,
    room: RankedPermit,
}

/// One fetch from the ring.
pub(crate) struct Race<'a> {
    last: &'a LastResort,
    nodes: &'a Nodes,
    plan: &'a Plan,
    class: Class,
    flight: &'a Flight,
    /// Bytes the block has at most, as far as its reader knows.
    expected: u32,
    /// The next owner to ask in full.
    next: usize,
    lanes: Vec<Lane<'a>>,
    probe: Option<Probe<'a>>,
    timer: Option<(Instant, BoxFuture<'a, ()>)>,
    busy_waits: u32,
    /// Bytes asked for, of all nodes together.
    in_flight: Option<RankedPermit>,
    origin_asked: bool,
}

impl First {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.node.addr
    }

    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }
}

impl<'a> Race<'a> {
    pub(crate) fn new(
        last: &'a LastResort,
        nodes: &'a Nodes,
        plan: &'a Plan,
        class: Class,
        flight: &'a Flight,
        expected: u32,
    ) -> Race<'a> {
        Race {
            last,
            nodes,
            plan,
            class,
            flight,
            expected,
            next: 0,
            lanes: Vec::new(),
            probe: None,
            timer: None,
            busy_waits: 0,
            in_flight: None,
            origin_asked: false,
        }
    }

    /// The next owner that may be asked, once there is room for its answer; `None` if there is none left.
    pub(crate) async fn first(&mut self, intake: &Intake<'_>) -> Option<First> {
        loop {
            let node = Arc::clone(self.plan.owners.get(self.next)?);
            self.next += 1;
            let standing = self.nodes.standing(&node);
            // Room first: the time until a node is late begins with the ask. Nothing is held while waiting for more.
            self.in_flight = None;
            let (room, in_flight) =
                wait_for_room(self.nodes, &standing, self.class, self.flight, self.cost(intake)).await;
            let wait = Wait::first(intake.wanted().len());
            let Some(bound) = self.nodes.standings.ask(&standing, wait, clock::now()) else {
                self.last.meter.skipped(SkipReason::BackOff);
                continue;
            };
            self.in_flight = Some(in_flight);
            return Some(First { node, standing, bound, room });
        }
    }

    /// What to ask of a node for the rest.
    pub(crate) fn request(&self, intake: &Intake<'_>, local: bool) -> GetRequest {
        let (class, epoch, spread) = (self.class, self.plan.epoch, self.plan.spread);
        // No deadline: the fetch is for everyone who waits or will; silence is what ends it.
        GetRequest { class, epoch, spread, local, ..GetRequest::new(intake.key.clone(), intake.wanted()) }
    }

    /// The lane of the place that was asked first, at `asked`.
    pub(crate) fn lane(&self, first: First, intake: &Intake<'_>, asked: Instant) -> Lane<'a> {
        let First { node, standing, bound, room } = first;
        let mut lane = Lane::new(Place::Node(node, standing), intake.wanted(), asked, bound);
        lane.room = Some(room);
        lane
    }

    /// `lane` is late; `opening` is what it still does.
    pub(crate) fn is_late(&mut self, mut lane: Lane<'a>, opening: Opening<'a, Result<Opened, NetError>>) {
        lane.state = State::Opening(opening);
        self.lanes.push(lane);
    }

    /// The rest of the block, from whoever gives it. Errors: the origin's.
    pub(crate) async fn run(mut self, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        let mut failure = None;
        while !intake.is_complete() {
            if self.lanes.is_empty() && !self.start(intake).await {
                drop((self.in_flight.take(), self.probe.take()));
                return self.last.finish(intake, failure).await;
            }
            match self.event().await {
                Event::Lane(i, LaneEvent::Opened(result)) => {
                    let lane = self.lanes.swap_remove(i);
                    self.opened(lane, result, intake).await;
                }
                Event::Lane(i, LaneEvent::Bytes(bytes)) => self.gave(i, bytes, intake).await,
                Event::Lane(i, LaneEvent::Ended) => self.failed(i, Skip::corrupt(), intake).await,
                Event::Lane(i, LaneEvent::Failed(skip)) => self.failed(i, skip, intake).await,
                Event::Lane(i, LaneEvent::OpenedOrigin(Ok(body))) => self.origin_opened(i, body, intake)?,
                Event::Lane(i, LaneEvent::OpenedOrigin(Err(error)) | LaneEvent::OriginFailed(error)) => {
                    let lane = self.lanes.swap_remove(i);
                    self.resolve(&lane, HedgeOutcome::Failed);
                    failure = Some(error);
                }
                Event::Judged(verdict) => self.judged(verdict, intake),
                Event::Look => self.look(intake).await,
            }
        }
        Ok(())
    }

    /// The beginning of the answer of `lane`, which is on no list.
    pub(crate) async fn opened(
        &mut self,
        mut lane: Lane<'a>,
        result: Result<Opened, NetError>,
        intake: &mut Intake<'_>,
    ) {
        let now = clock::now();
        let (head, rest) = match result {
            Ok(Opened::All(head, bytes)) => (head, Ok(bytes)),
            Ok(Opened::Begun(head, body)) => (head, Err(body)),
            Err(error) => return Box::pin(self.leave(lane, Skip::failed(&error), intake)).await,
        };
        self.nodes.hints.hear(intake.key, head.spread, now);
        if let Err(skip) = believe(&head, lane.wanted, intake) {
            return Box::pin(self.leave(lane, skip, intake)).await;
        }
        lane.tier = head.tier;
        lane.wanted = head.range;
        (lane.began, lane.heard) = (now, now);
        if let (Place::Node(_, standing), true) = (&lane.from, lane.holds()) {
            let first = Wait::first(head.range.len());
            self.nodes.standings.took(standing, first, now.saturating_duration_since(lane.asked), now);
        }
        match rest {
            // All there is: nobody else is needed, and it is on no list.
            Ok(bytes) => {
                self.lose_all();
                self.won(&mut lane);
                let pos = lane.pos;
                lane.pos += bytes.len() as u32;
                if intake.take(pos, Arrival::Own(bytes), Tier::Peer).is_ok() && intake.is_complete() {
                    self.finish(&lane, now);
                } else {
                    Box::pin(self.leave(lane, Skip::corrupt(), intake)).await;
                }
            }
            Err(body) => {
                lane.state = State::Reading(body);
                lane.look_at = now + self.nodes.patience.gap;
                self.lanes.push(lane);
            }
        }
    }

    fn origin_opened(&mut self, i: usize, body: OriginBody, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        let mut lane = self.lanes.swap_remove(i);
        if intake.is_held() {
            // The object's own length and bytes: what nodes gave does not mix with them.
            self.lose_all();
            intake.drop_unproven();
        }
        if let Some(block_len) = body.block_len() {
            intake.accept(block_len)?;
        }
        lane.heard = clock::now();
        lane.state = State::ReadingOrigin(body);
        self.lanes.push(lane);
        Ok(())
    }

    /// Lane `i` gave `bytes`.
    async fn gave(&mut self, i: usize, bytes: Arrival, intake: &mut Intake<'_>) {
        let now = clock::now();
        let lane = &mut self.lanes[i];
        lane.heard = now;
        let (pos, tier) = (lane.pos, if matches!(lane.from, Place::Origin) { Tier::Origin } else { Tier::Peer });
        lane.pos = lane.pos.saturating_add(bytes.len() as u32);
        if intake.take(pos, bytes, tier).is_err() {
            return self.failed(i, Skip::corrupt(), intake).await;
        }
        let trickles = lane.fault == Some(Fault::Trickling) && !intake.is_complete();
        if !trickles {
            lane.fault = None;
            lane.look_at = lane.look_at.min(now + self.nodes.patience.gap);
            self.wins(i);
        }
        if intake.is_complete() {
            if let Some(lane) = self.lanes.pop() {
                self.finish(&lane, now);
            }
            return;
        }
        if let Some(in_flight) = &mut self.in_flight {
            let left = u64::from(intake.wanted().len());
            if in_flight.bytes() >= left + u64::from(ROOM_STEP) {
                in_flight.shrink_to(left);
            }
        }
    }

    /// Lane `i` goes on alone.
    fn wins(&mut self, i: usize) {
        if self.lanes.len() > 1 {
            let lane = self.lanes.swap_remove(i);
            self.lose_all();
            self.lanes.push(lane);
        }
        if let Some(mut lane) = self.lanes.pop() {
            self.won(&mut lane);
            self.lanes.push(lane);
        }
    }

    /// `lane` may have been a second one; from now on it is the only one.
    fn won(&self, lane: &mut Lane<'a>) {
        if let Some(bytes) = lane.hedge.take() {
            self.last.meter.hedged(HedgeOutcome::Won, bytes);
        }
    }

    /// The last byte has come, from `lane`.
    fn finish(&mut self, lane: &Lane<'a>, now: Instant) {
        self.nodes.allowance.earn(lane.given().into());
        let Place::Node(_, standing) = &lane.from else { return };
        if lane.given() >= PACE_BYTES_MIN {
            let elapsed = now.saturating_duration_since(lane.began);
            self.nodes.standings.took(standing, lane.pace(), per_mib(elapsed, lane.given().into()), now);
        }
        self.nodes.standings.note(standing, lane.asked, Outcome::Well, now);
    }

    /// Lane `i` did not give what it was asked for.
    async fn failed(&mut self, i: usize, skip: Skip, intake: &mut Intake<'_>) {
        let lane = self.lanes.swap_remove(i);
        self.leave(lane, skip, intake).await;
    }

    /// `lane`, which is on no list any more, did not give what it was asked for.
    async fn leave(&mut self, lane: Lane<'a>, skip: Skip, intake: &mut Intake<'_>) {
        let now = clock::now();
        if lane.ask == Ask::Local {
            self.nodes.allowance.give_back(lane.hedge.unwrap_or_default());
        }
        self.resolve(&lane, HedgeOutcome::Failed);
        if let Place::Node(node, standing) = &lane.from {
            let outcome = if skip.unwell { Outcome::Unwell } else { Outcome::Well };
            self.nodes.standings.note(standing, lane.asked, outcome, now);
            tracing::debug!(node = %node.name, key = %intake.key, reason = skip.reason.as_str(), "node passed over");
        }
        if skip.reason == SkipReason::Corrupt {
            // The others were asked from where these bytes end.
            self.lose_all();
            intake.rewind();
        }
        if lane.ask == Ask::Local {
            // What is stuck gets its time; a trickle goes on, and the origin is asked too.
            if self.lanes.iter().any(|lane| lane.fault == Some(Fault::Trickling)) {
                self.ask_origin_too(Right::Allowance, intake);
            }
            return;
        }
        self.last.meter.skipped(skip.reason);
        if skip.reason == SkipReason::NotFound {
            // It has just asked the origin; another node would ask again.
            self.next = self.plan.owners.len();
        }
        if self.lanes.is_empty() {
            if skip.reason == SkipReason::Busy {
                self.wait_for_room_at_node(skip.retry).await;
            }
        } else if self.lanes.iter().all(|lane| lane.fault.is_some()) {
            let right = if self.lanes.iter().all(|lane| lane.fetching) { Right::Allowance } else { Right::Need };
            self.overtake(Ask::Full, right, intake);
        }
    }

    /// Work that is not urgent waits for a busy node; a program that waits goes on to the next place.
    async fn wait_for_room_at_node(&mut self, retry: Duration) {
        if self.class == Class::Foreground || self.busy_waits >= BUSY_WAITS {
            return;
        }
        self.busy_waits += 1;
        let pause = if retry.is_zero() { BUSY_WAIT } else { retry.min(BUSY_WAIT_MAX) };
        if clock::timeout(pause, self.flight.hurried()).await.is_err() {
            self.next = self.next.saturating_sub(1);
        }
    }

    /// Asks the next owner, with nobody else under way. False if none is left.
    async fn start(&mut self, intake: &Intake<'_>) -> bool {
        let Some(first) = self.first(intake).await else { return false };
        let request = self.request(intake, false);
        let opening = Box::pin(open(&self.nodes.peers.endpoint, first.addr(), request));
        let lane = self.lane(first, intake, clock::now());
        self.is_late(lane, opening);
        true
    }

    /// Asks another place too, which never waits: for room of its own it takes what there is. False if there is none to ask.
    fn overtake(&mut self, ask: Ask, right: Right, intake: &Intake<'_>) -> bool {
        if self.lanes.len() >= LANES_MAX {
            return false;
        }
        let now = clock::now();
        while let Some(node) = self.plan.owners.get(self.next) {
            let standing = self.nodes.standing(node);
            // Asked for what it holds, a node comes up again to be asked in full.
            if ask == Ask::Local && self.nodes.standings.is_avoided(&standing) {
                return false;
            }
            let wait = Wait::first(intake.wanted().len());
            let Some(bound) = self.nodes.standings.ask(&standing, wait, now) else {
                self.next += 1;
                self.last.meter.skipped(SkipReason::BackOff);
                continue;
            };
            let Some(bytes) = self.pay(right, intake) else { return false };
            if ask == Ask::Full {
                self.next += 1;
            }
            let room = standing.room.try_acquire(bytes.into());
            let request = self.request(intake, ask == Ask::Local);
            let mut lane = Lane::new(Place::Node(Arc::clone(node), standing), intake.wanted(), now, bound);
            (lane.ask, lane.hedge, lane.room) = (ask, Some(bytes), room);
            lane.state = State::Opening(Box::pin(open(&self.nodes.peers.endpoint, node.addr, request)));
            self.lanes.push(lane);
            return true;
        }
        ask == Ask::Full && self.ask_origin_too(right, intake)
    }

    /// What asking for the rest once more costs, paid; `None` if the allowance does not have it.
    fn pay(&self, right: Right, intake: &Intake<'_>) -> Option<u32> {
        let bytes = self.cost(intake) as u32;
        match right {
            Right::Need => self.nodes.allowance.owe(bytes),
            Right::Allowance if self.nodes.allowance.take(bytes) => {}
            Right::Allowance => {
                self.last.meter.hedged(HedgeOutcome::Refused, 0);
                return None;
            }
        }
        Some(bytes)
    }

    fn ask_origin_too(&mut self, right: Right, intake: &Intake<'_>) -> bool {
        if self.lanes.len() >= LANES_MAX || self.origin_asked {
            return false;
        }
        let Some(bytes) = self.pay(right, intake) else { return false };
        self.origin_asked = true;
        let now = clock::now();
        let range = if intake.is_held() { None } else { Some(intake.wanted()) };
        let from = if intake.is_held() { BlockRange { start: 0, end: u32::MAX } } else { intake.wanted() };
        let (last, key) = (self.last, intake.key.clone());
        let mut lane = Lane::new(Place::Origin, from, now, last.patience);
        lane.hedge = Some(bytes);
        last.meter.origin_request();
        lane.state = State::OpeningOrigin(Box::pin(async move {
            origin::open(last.store.as_ref(), &key, range, last.patience).await
        }));
        self.lanes.push(lane);
        true
    }

    /// Looks into every lane whose time has come.
    async fn look(&mut self, intake: &mut Intake<'_>) {
        let now = clock::now();
        let mut i = 0;
        while i < self.lanes.len() {
            if self.lanes[i].look_at > now {
                i += 1;
                continue;
            }
            let limit = match &self.lanes[i].from {
                Place::Node(..) => self.nodes.patience.whole,
                Place::Origin => self.last.patience,
            };
            let silent = self.lanes[i].silent(now);
            if silent >= limit {
                // The list is another one then; what else is due is looked into at once.
                return self.failed(i, Skip::silent(), intake).await;
            }
            self.lanes[i].look_at = self.lanes[i].heard + limit;
            self.look_into(i, silent, now, intake);
            i += 1;
        }
    }

    fn look_into(&mut self, i: usize, silent: Duration, now: Instant, intake: &Intake<'_>) {
        let patience = self.nodes.patience;
        let lane = &mut self.lanes[i];
        let Place::Node(node, _) = &lane.from else { return };
        match lane.fault {
            None => {}
            Some(Fault::Stuck) => {
                lane.fault = Some(Fault::GivenUp);
                self.overtake(Ask::Full, Right::Need, intake);
                return;
            }
            Some(Fault::Hung | Fault::GivenUp | Fault::Trickling) => return,
        }
        let late = if lane.is_reading() { patience.gap } else { lane.bound };
        if silent < late {
            // Between bytes, or a timer that was set for an earlier state.
            lane.look_at = if lane.is_reading() { now + late } else { lane.heard + late };
            return self.check_pace(i, now, intake);
        }
        lane.look_at = now + patience.gap;
        let overdue = lane.fetching && silent >= patience.fetching;
        let node = Arc::clone(node);
        if overdue && self.overtake(Ask::Full, Right::Allowance, intake) {
            self.lanes[i].fault = Some(Fault::GivenUp);
        } else if self.probe.is_none() {
            self.probe = Some(probe(self.nodes, node, intake, now));
        }
    }

    /// Whether a body that comes is worth waiting for.
    fn check_pace(&mut self, i: usize, now: Instant, intake: &Intake<'_>) {
        let lane = &mut self.lanes[i];
        let pace = per_mib(now.saturating_duration_since(lane.began), lane.given().into());
        let left = pace.mul_f64(f64::from(intake.wanted().len()) / f64::from(1 << 20));
        let (Place::Node(_, standing), kind) = (&lane.from, lane.pace()) else { return };
        if !lane.is_reading() || left < self.nodes.patience.gap || !self.nodes.standings.is_unusual(kind, pace) {
            return;
        }
        self.nodes.standings.took(standing, kind, pace, now);
        lane.fault = Some(Fault::Trickling);
        if !self.overtake(Ask::Local, Right::Allowance, intake) {
            self.ask_origin_too(Right::Allowance, intake);
        }
    }

    /// What the node of a late lane says of itself.
    fn judged(&mut self, verdict: Verdict, intake: &Intake<'_>) {
        let Some(probe) = self.probe.take() else { return };
        let now = clock::now();
        let patience = self.nodes.patience;
        let about = |lane: &Lane<'_>| match &lane.from {
            // What came meanwhile says more.
            Place::Node(node, _) => node.id == probe.node.id && lane.heard <= probe.sent && lane.fault.is_none(),
            Place::Origin => false,
        };
        let Some(lane) = self.lanes.iter_mut().find(|lane| about(lane)) else { return };
        tracing::debug!(node = %probe.node.name, key = %intake.key, ?verdict, "node is late");
        match verdict {
            Verdict::Fetching => {
                lane.fetching = true;
                lane.look_at = now + patience.late_max;
            }
            Verdict::Holds => {
                lane.fault = Some(Fault::Stuck);
                lane.look_at = (lane.heard + patience.stuck).max(now);
                if lane.ask == Ask::Full {
                    self.overtake(Ask::Local, Right::Allowance, intake);
                }
            }
            Verdict::Hung => {
                lane.fault = Some(Fault::Hung);
                lane.look_at = lane.heard + patience.whole;
                self.overtake(Ask::Full, Right::Need, intake);
            }
        }
    }

    /// Every lane on the list is dropped: another one was faster.
    fn lose_all(&mut self) {
        let now = clock::now();
        for lane in std::mem::take(&mut self.lanes) {
            self.resolve(&lane, HedgeOutcome::Lost);
            let Place::Node(_, standing) = &lane.from else { continue };
            let reason = match lane.fault {
                None => continue,
                Some(Fault::Hung) => SkipReason::Hung,
                Some(Fault::Stuck | Fault::GivenUp | Fault::Trickling) => SkipReason::Slow,
            };
            self.last.meter.skipped(reason);
            if lane.fault != Some(Fault::Trickling) {
                self.nodes.standings.note(standing, lane.asked, Outcome::Unwell, now);
            }
            if matches!(lane.state, State::Opening(_)) {
                // It would have taken longer still.
                let first = Wait::first(lane.wanted.len());
                self.nodes.standings.took(standing, first, now.saturating_duration_since(lane.asked), now);
            }
        }
    }

    fn resolve(&self, lane: &Lane<'_>, outcome: HedgeOutcome) {
        if let Some(bytes) = lane.hedge {
            let asked_twice = if outcome == HedgeOutcome::Failed { 0 } else { bytes };
            self.last.meter.hedged(outcome, asked_twice);
        }
    }

    /// Bytes that are still to come, as far as is known.
    fn cost(&self, intake: &Intake<'_>) -> u64 {
        intake.wanted().len().min(self.expected).into()
    }

    async fn event(&mut self) -> Event {
        let due = self.lanes.iter().map(|lane| lane.look_at).min();
        if let Some(due) = due
            && self.timer.as_ref().is_none_or(|(at, _)| *at > due)
        {
            self.timer = Some((due, Box::pin(clock::sleep_until(due))));
        }
        poll_fn(|cx| {
            for (i, lane) in self.lanes.iter_mut().enumerate() {
                if let Poll::Ready(event) = lane.poll(cx) {
                    return Poll::Ready(Event::Lane(i, event));
                }
            }
            if let Some(probe) = &mut self.probe
                && let Poll::Ready(verdict) = probe.verdict.as_mut().poll(cx)
            {
                return Poll::Ready(Event::Judged(verdict));
            }
            match self.timer.as_mut().map(|(_, timer)| timer.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => {
                    self.timer = None;
                    Poll::Ready(Event::Look)
                }
                _ => Poll::Pending,
            }
        })
        .await
    }
}

/// Room for `bytes` at one node and in all. A fetch for later that somebody comes to wait for waits as a program does.
async fn wait_for_room(
    nodes: &Nodes,
    node: &Standing,
    class: Class,
    flight: &Flight,
    bytes: u64,
) -> (RankedPermit, RankedPermit) {
    if class != Class::Foreground {
        tokio::select! {
            biased;
            room = room_at(nodes, node, class, bytes) => return room,
            () = flight.hurried() => {}
        }
    }
    room_at(nodes, node, Class::Foreground, bytes).await
}

async fn room_at(nodes: &Nodes, node: &Standing, class: Class, bytes: u64) -> (RankedPermit, RankedPermit) {
    let at_node = node.room.acquire(class as usize, bytes).await;
    (at_node, nodes.in_flight.acquire(class as usize, bytes).await)
}

/// Asks the node of a late lane whether it is there, and holds the block.
fn probe<'a>(nodes: &'a Nodes, node: Arc<Member>, intake: &Intake<'_>, sent: Instant) -> Probe<'a> {
    let (addr, keys) = (node.addr, vec![intake.key.clone()]);
    let verdict = Box::pin(async move {
        match nodes.peers.endpoint.call(addr, &Request::Has { keys }, nodes.patience.gap).await {
            Ok(Response::Has { tiers }) if tiers.first().is_some_and(Option::is_some) => Verdict::Holds,
            Ok(_) => Verdict::Fetching,
            // It is there, and refuses: better not wait for it.
            Err(NetError::Answered { .. }) => Verdict::Holds,
            Err(_) => Verdict::Hung,
        }
    });
    Probe { node, sent, verdict }
}
