//! The membership protocol without I/O or clock: packets, views of other nodes and time in; packets, events and members out.
//!
//! Wraps `foca` (SWIM with suspicion). Time is a `Duration` since an arbitrary start and may be slower than the wall clock, so
//! that a process that was stalled does not take its own sleep for the silence of others.
//!
//! Three habits of foca 2.0.0 are worked around here, each with a test in `tests.rs`:
//! 1. A suspicion timer that fires after the suspect refuted it still sends the suspect `TurnUndead`, which makes a healthy
//!    node give up its identity. Such timers are dropped ([`Membership::is_moot`]).
//! 2. A change of identity stops all probing until some packet with updates arrives; a node whose peers are all dead would
//!    believe in them for ever. Every step ends with an empty `apply_many`, which restarts the timers ([`Membership::settle`]).
//! 3. A node that left still answers news of its own death by rejoining, if it can renew. Identities never renew on their own;
//!    [`Membership::rejoin`] does it, paced, unless the node is leaving.

mod outbox;
mod timers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foca::{Foca, NoCustomBroadcast, OwnedNotification, State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use self::outbox::{GOSSIP_FORMAT, Outbox};
use self::timers::Timers;
use crate::damping::Damping;
use crate::identity::{Codec, Identity};
use crate::member::Member;
use crate::timing::Timing;

/// Most nodes that one foreign view makes us announce ourselves to: enough to survive losses, small beside a large ring.
const ANNOUNCE_MAX: usize = 8;
/// Pause before the second rejoin in a row; doubles up to [`REJOIN_PAUSE_MAX`]. The first is immediate.
const REJOIN_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between rejoins: two processes with one node id would otherwise outbid each other as fast as they can.
const REJOIN_PAUSE_MAX: Duration = Duration::from_secs(5);
/// After this long without a rejoin the next one is a first again.
const REJOIN_CALM: Duration = Duration::from_secs(60);

/// What happened, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A node joined.
    Up(Arc<Member>),
    /// A node left or was declared dead.
    Down(Arc<Member>),
    /// A node began a new life: another process has its id now.
    Renewed(Arc<Member>),
    /// A node says something else about itself; it is the same process as before.
    Changed(Arc<Member>),
    /// This node owns nothing for a while because it came and went too often, or owns blocks again.
    Damped(bool),
    /// Others had declared this node dead; it is back under a new incarnation, for this many times in a row. Many times mean
    /// that another process uses this node's id, which nobody can see directly: peers talk to one of the two at a time.
    Rejoined(u32),
}

/// One node's part in the protocol.
pub(crate) struct Membership {
    foca: Foca<Identity, Codec, SmallRng, NoCustomBroadcast>,
    rng: SmallRng,
    outbox: Outbox,
    timers: Timers,
    events: Vec<Event>,
    /// Nodes that did not know us when last heard of; told again after a rejoin.
    strangers: Vec<Identity>,
    rejoin_at: Option<Duration>,
    last_rejoin: Option<Duration>,
    /// Rejoins since the last calm.
    rejoins: u32,
    damping: Damping,
    timing: Timing,
    /// Other nodes for which the protocol is paced, rounded up to a power of two.
    paced_for: usize,
    changed: bool,
    left: bool,
    refused: u64,
}

impl Membership {
    /// A node that knows only itself. `me` has passed [`Member::check`]; `seed` decides every random choice; `damping` is the record of its
    /// former runs with this one.
    pub(crate) fn new(me: Member, timing: &Timing, damping: Damping, seed: u64) -> Membership {
        let me = Member { damped: damping.is_damped(), ..me };
        let mut rng = SmallRng::seed_from_u64(seed);
        let choices = SmallRng::from_rng(&mut rng);
        Membership {
            foca: Foca::new(Identity(Arc::new(me)), timing.foca(0), choices, Codec),
            rng,
            outbox: Outbox::default(),
            timers: Timers::default(),
            events: Vec::new(),
            strangers: Vec::new(),
            rejoin_at: None,
            last_rejoin: None,
            rejoins: 0,
            timing: timing.clone(),
            paced_for: 0,
            damping,
            changed: true,
            left: false,
            refused: 0,
        }
    }

    /// Takes a gossip packet. Bytes that are none are counted and ignored.
    pub(crate) fn receive(&mut self, now: Duration, packet: &[u8]) {
        if self.left {
            return;
        }
        let Some((&GOSSIP_FORMAT, packet)) = packet.split_first() else {
            self.refused += 1;
            return;
        };
        if let Err(error) = self.foca.handle_data(packet, &mut self.outbox) {
            self.refused += 1;
            tracing::debug!(%error, "gossip packet refused");
        }
        self.settle(now);
    }

    /// Does what is due at `now`. Call it at [`Membership::next_deadline`] or later.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.left {
            return;
        }
        while let Some(timer) = self.timers.pop_due(now) {
            if self.is_moot(&timer) {
                continue;
            }
            if let Err(error) = self.foca.handle_timer(timer, &mut self.outbox) {
                tracing::debug!(%error, "membership timer");
            }
            self.settle(now);
        }
        if self.rejoin_at.is_some_and(|at| at <= now) {
            self.rejoin(now);
        }
        if self.damping.release(now) {
            let me = self.me().as_ref().clone();
            self.describe(now, Member { damped: false, incarnation: me.incarnation.saturating_add(1), ..me });
            self.events.push(Event::Damped(false));
        }
    }

    /// Takes the view another node answered with: joins it if it does not know us, and learns whom it knows.
    pub(crate) fn meet(&mut self, now: Duration, members: &[Arc<Member>]) {
        if self.left {
            return;
        }
        let me = Arc::clone(&self.foca.identity().0);
        let myself = members.iter().find(|member| member.id == me.id);
        if let Some(other) = myself.filter(|other| other.incarnation > me.incarnation) {
            // A clock that went backwards, or another process with this id: go above it.
            self.begin_life(now, other.incarnation.saturating_add(1));
        }
        let known_there = myself.is_some_and(|there| **there == *self.foca.identity().0);
        let others = members.iter().filter(|member| member.id != me.id).map(|member| Identity(Arc::clone(member)));
        let strange = |id: &Identity| !self.foca.iter_members().any(|known| known.id() == id);
        let strangers = others.filter(|id| !known_there || strange(id)).collect();
        self.strangers = strangers;
        self.strangers.shuffle(&mut self.rng);
        let news: Vec<_> = self.strangers.iter().cloned().map(foca::Member::alive).collect();
        // Not broadcast: whoever sent this view tells its own neighbours.
        self.apply(news.into_iter());
        self.settle(now);
        self.strangers.truncate(ANNOUNCE_MAX);
        self.announce();
        self.settle(now);
    }

    /// Tells everyone that this node will leave; it is a member until [`Membership::leave`]. Twice is once.
    pub(crate) fn set_leaving(&mut self, now: Duration) {
        if self.left || self.me().leaving {
            return;
        }
        let me = self.me().as_ref().clone();
        self.describe(now, Member { leaving: true, incarnation: me.incarnation.saturating_add(1), ..me });
    }

    /// Says goodbye. Afterwards only [`Membership::say_goodbye_again`] does anything.
    pub(crate) fn leave(&mut self, now: Duration) {
        if self.left {
            return;
        }
        if let Err(error) = self.foca.leave_cluster(&mut self.outbox) {
            tracing::debug!(%error, "leaving the ring");
        }
        self.settle(now);
        self.left = true;
        self.rejoin_at = None;
        self.changed = true;
    }

    /// Tells three more nodes that this one has left, as single packets get lost.
    pub(crate) fn say_goodbye_again(&mut self) {
        if self.left
            && let Err(error) = self.foca.gossip(&mut self.outbox)
        {
            tracing::debug!(%error, "leaving the ring");
        }
    }

    /// When [`Membership::tick`] has something to do; `None` if never.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        if self.left {
            return None;
        }
        self.timers.next_deadline().into_iter().chain(self.rejoin_at).chain(self.damping.until()).min()
    }

    /// The next packet to send.
    pub(crate) fn poll_send(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.outbox.sends.pop_front()
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The members including this node, unsorted, if they may have changed since the last call.
    pub(crate) fn take_members(&mut self) -> Option<Vec<Arc<Member>>> {
        std::mem::take(&mut self.changed).then(|| self.members())
    }

    /// The members including this node unless it left, unsorted.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        let me = (!self.left).then(|| Arc::clone(&self.foca.identity().0));
        me.into_iter().chain(self.foca.iter_members().map(|member| Arc::clone(&member.id().0))).collect()
    }

    /// This node as it describes itself now; its incarnation grows with each rejoin.
    pub(crate) fn me(&self) -> &Arc<Member> {
        &self.foca.identity().0
    }

    /// This node's penalty for coming and going.
    pub(crate) fn penalty(&self, now: Duration) -> f64 {
        self.damping.penalty(now)
    }

    /// Packets refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// True for a suspicion that is no longer one.
    fn is_moot(&self, timer: &Timer<Identity>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        !self.foca.iter_membership_state().any(|member| {
            member.id() == member_id && member.state() == State::Suspect && member.incarnation() == *incarnation
        })
    }

    fn apply(&mut self, news: impl Iterator<Item = foca::Member<Identity>>) {
        if let Err(error) = self.foca.apply_many(news, false, &mut self.outbox) {
            tracing::debug!(%error, "membership update");
        }
    }

    fn announce(&mut self) {
        for stranger in &self.strangers {
            if let Err(error) = self.foca.announce(stranger.clone(), &mut self.outbox) {
                tracing::debug!(%error, "announcing this node");
            }
        }
    }

    /// Ends every step: restarts probing if an identity change stopped it, and digests what foca produced.
    fn settle(&mut self, now: Duration) {
        self.apply(std::iter::empty());
        self.adapt_pace();
        for (after, timer) in self.outbox.timers.drain(..) {
            self.timers.push(now + after, timer);
        }
        for notice in std::mem::take(&mut self.outbox.notices) {
            self.digest(now, notice);
        }
    }

    fn adapt_pace(&mut self) {
        let nodes = self.foca.num_members().next_power_of_two();
        if nodes != self.paced_for {
            self.paced_for = nodes;
            if let Err(error) = self.foca.set_config(self.timing.foca(nodes)) {
                tracing::debug!(%error, "pacing the ring");
            }
        }
    }

    fn digest(&mut self, now: Duration, notice: OwnedNotification<Identity>) {
        match notice {
            OwnedNotification::MemberUp(id) => self.events.push(Event::Up(id.0)),
            OwnedNotification::MemberDown(id) => self.events.push(Event::Down(id.0)),
            // foca keeps other lives of this node's own id among the dead.
            OwnedNotification::Rename(_, after) if after.0.id == self.me().id => return,
            OwnedNotification::Rename(before, after) if before.0.life == after.0.life => {
                self.events.push(Event::Changed(after.0));
            }
            OwnedNotification::Rename(_, after) => self.events.push(Event::Renewed(after.0)),
            OwnedNotification::Defunct => self.plan_rejoin(now),
            OwnedNotification::Active | OwnedNotification::Idle | OwnedNotification::Rejoin(_) => return,
        }
        self.changed = true;
    }

    fn plan_rejoin(&mut self, now: Duration) {
        if self.left || self.rejoin_at.is_some() {
            return;
        }
        if self.last_rejoin.is_none_or(|last| now.saturating_sub(last) > REJOIN_CALM) {
            self.rejoins = 0;
        }
        let pause = match self.rejoins {
            0 => Duration::ZERO,
            n => REJOIN_PAUSE.saturating_mul(1 << (n - 1).min(16)).min(REJOIN_PAUSE_MAX),
        };
        self.rejoin_at = Some(now + pause);
    }

    /// Begins a new life under an incarnation above all that were seen of this id.
    fn rejoin(&mut self, now: Duration) {
        self.rejoin_at = None;
        let id = self.me().id;
        let seen = self.foca.iter_membership_state().filter(|member| member.id().0.id == id);
        let highest = seen.map(|member| member.id().0.incarnation).fold(self.me().incarnation, u64::max);
        // Growing steps overtake even an incarnation that nobody tells us about, such as one from a clock that ran ahead:
        // after ten rejoins, some 20 s, by 35 years of milliseconds.
        let step = 16u64.pow(self.rejoins.min(10));
        let was_damped = self.damping.is_damped();
        self.damping.returned(now);
        self.begin_life(now, highest.saturating_add(step));
        self.events.push(Event::Rejoined(self.rejoins));
        if self.damping.is_damped() && !was_damped {
            self.events.push(Event::Damped(true));
        }
    }

    fn begin_life(&mut self, now: Duration, incarnation: u64) {
        self.rejoins = self.rejoins.saturating_add(1);
        self.last_rejoin = Some(now);
        let next = Member { incarnation, damped: self.damping.is_damped(), ..self.me().as_ref().clone() };
        self.describe(now, next);
    }

    /// This node describes itself as `next` from now on, whose incarnation is above the last one. To the protocol that is
    /// another identity, which replaces the one before without a death in between.
    fn describe(&mut self, now: Duration, next: Member) {
        if let Err(error) = self.foca.change_identity(Identity(Arc::new(next)), &mut self.outbox) {
            tracing::debug!(%error, "describing this node anew");
        }
        self.changed = true;
        self.settle(now);
        self.announce();
        self.settle(now);
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
