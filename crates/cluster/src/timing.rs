//! How long things take before they mean something.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

use crate::error::ClusterError;
use crate::view::MEMBERS_MAX;

/// Largest gossip packet, bytes. A whole feed of some 500 members fits one; with datagram-sized packets a thousand nodes need
/// minutes to know each other instead of seconds (measured: 1,400 bytes over 600 s, 60,000 bytes 3 s). Below 64 KiB so that a
/// packet with its frame fits the receive buffers of the loopback transport.
pub(crate) const PACKET_BYTES_MAX: usize = 48 << 10;

/// Pause between announcements for each node of a large ring.
const ANNOUNCE_PAUSE_PER_NODE: Duration = Duration::from_millis(40);

/// Paces of membership. The defaults suit one site; every node of a ring should use the same ones.
///
/// The defaults take a killed node out of every view within 5 s: some survivor probes it within a few `probe_period`s (each
/// probes one random node a period, so the tail is long), the probe fails at the end of that period, `suspect_for` later it is
/// out, and gossip spreads that in about 0.3 s. Simulated on a good network, seconds; 300 kills a row
/// (50 nodes: 41), the last column from 60 kills a row (50 nodes: 21), so its tail is less well known:
///
/// | nodes | median | 90 % | worst | worst with a period of 0.5 s |
/// |---|---|---|---|---|
/// | 2 | 2.5 | 2.6 | 2.6 | 3.0 |
/// | 3 | 2.5 | 2.8 | 3.2 | 3.8 |
/// | 10 | 2.7 | 3.1 | 4.1 | 4.8 |
/// | 20 | 2.8 | 3.2 | 4.0 | 4.4 |
/// | 50 | 2.9 | 3.3 | 3.6 | 4.4 |
///
/// A node that was merely slow has `suspect_for` to hear the suspicion and refute it, which costs it two wake-ups: five
/// nodes in one process on a two-core machine at load 14 to 28 saw no false death in 100 s.
/// The time in which a node was itself stalled does not count (see `Pace`), so a frozen node does not come back and
/// declare everyone else dead.
#[derive(Debug, Clone)]
pub struct Timing {
    /// One other node is probed each such period; the probe has failed at its end.
    pub probe_period: Duration,
    /// A direct answer is due after this; three other nodes are then asked to try. Shorter than `probe_period`.
    pub probe_timeout: Duration,
    /// How long a node that failed a probe may refute that before it is out.
    pub suspect_for: Duration,
    /// News travels this often, to three nodes each time.
    pub gossip_every: Duration,
    /// One random node is asked for all it knows this often, so that lost news is made up for; in a ring of more than 50 nodes more
    /// rarely, as the answer grows with the ring: see [`Timing::foca`].
    pub announce_every: Duration,
    /// Two nodes believed dead are tried this often, so that a healed network is noticed without a seed.
    pub retry_dead_every: Duration,
    /// A node believed dead is forgotten after this.
    pub forget_dead_after: Duration,
    /// The penalty of a node that came and went halves in this time; see [`crate::Member::damped`].
    pub flap_half_life: Duration,
    /// First pause between attempts to reach the seeds while alone; doubles up to `seeds_every`.
    pub seeds_first: Duration,
    /// Seeds that are not in the view are asked this often for good: two halves of a ring find each other again by it.
    pub seeds_every: Duration,
    /// Limit of one request for a view.
    pub call_timeout: Duration,
    /// A follower hears from its node at least this often.
    pub watch_every: Duration,
    /// A follower moves to another node after this much silence.
    pub watch_silence: Duration,
    /// How long leaving gossips before it returns.
    pub leave_for: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            probe_period: Duration::from_millis(300),
            probe_timeout: Duration::from_millis(120),
            suspect_for: Duration::from_secs(2),
            gossip_every: Duration::from_millis(200),
            announce_every: Duration::from_secs(2),
            retry_dead_every: Duration::from_secs(5),
            forget_dead_after: Duration::from_secs(24 * 3600),
            flap_half_life: Duration::from_secs(120),
            seeds_first: Duration::from_millis(250),
            seeds_every: Duration::from_secs(5),
            call_timeout: Duration::from_secs(3),
            watch_every: Duration::from_secs(2),
            watch_silence: Duration::from_secs(6),
            leave_for: Duration::from_millis(300),
        }
    }
}

impl Timing {
    /// Checks what the protocol needs. Errors: `Invalid`, naming the rule.
    pub fn check(&self) -> Result<(), ClusterError> {
        let zero = Duration::ZERO;
        let periods = [
            self.probe_timeout,
            self.suspect_for,
            self.gossip_every,
            self.announce_every,
            self.retry_dead_every,
            self.forget_dead_after,
            self.flap_half_life,
            self.seeds_first,
            self.seeds_every,
            self.call_timeout,
            self.watch_every,
        ];
        let rule = if periods.contains(&zero) {
            "no period may be zero"
        } else if self.probe_timeout * 2 > self.probe_period {
            "a probe period takes at least two probe timeouts: one for the direct and one for the indirect answer"
        } else if self.watch_silence < self.watch_every * 2 {
            "a follower must miss at least two signs of life before it moves on"
        } else {
            return Ok(());
        };
        Err(ClusterError::BadTiming { rule })
    }

    /// The protocol library's configuration for a ring of about `nodes` other nodes.
    ///
    /// An answer to an announcement holds every member, some 50 bytes each: it is most of what a ring at rest sends. So the pause between
    /// two announcements grows with the ring, which keeps it near 1 KB a node and second (measured at a fixed 2 s: 2.9 KB with 100
    /// nodes). News does not depend on it: each node passes it on twelve times.
    pub(crate) fn foca(&self, nodes: usize) -> Config {
        let announce_every = ANNOUNCE_PAUSE_PER_NODE * nodes.min(MEMBERS_MAX) as u32;
        let every = |frequency, nodes: usize| {
            let num_members = NonZeroUsize::new(nodes).expect("a positive constant");
            Some(PeriodicParams { frequency, num_members })
        };
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_timeout,
            num_indirect_probes: NonZeroUsize::new(3).expect("positive"),
            // 4 * log10(1000 nodes): enough for news to reach everyone with 20 % of packets lost; cheap, as news is rare.
            max_transmissions: NonZeroU8::new(12).expect("positive"),
            suspect_to_down_after: self.suspect_for,
            remove_down_after: Some(self.forget_dead_after),
            max_packet_size: NonZeroUsize::new(PACKET_BYTES_MAX).expect("positive"),
            notify_down_members: true,
            periodic_announce: every(announce_every.max(self.announce_every), 1),
            periodic_announce_to_down_members: every(self.retry_dead_every, 2),
            periodic_gossip: every(self.gossip_every, 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_keep_the_rules() {
        Timing::default().check().unwrap();
    }

    #[test]
    fn impossible_timings_are_refused() {
        let base = Timing::default();
        let bad = [
            Timing { probe_timeout: base.probe_period, ..base.clone() },
            Timing { gossip_every: Duration::ZERO, ..base.clone() },
            Timing { watch_silence: base.watch_every, ..base.clone() },
        ];
        for timing in bad {
            assert!(timing.check().is_err(), "{timing:?}");
        }
    }
}
