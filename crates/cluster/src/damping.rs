//! Keeps a node that comes and goes out of the ring until it has been calm for a while.
//!
//! Every change of the ring moves a share of all blocks, so a node that flaps costs everybody. As routers do with routes (RFC
//! 2439), each return adds to a penalty that halves every [`crate::Timing::flap_half_life`]; above [`DAMP_ABOVE`] the node owns nothing
//! until the penalty has fallen below [`OWN_BELOW`]. It stays a member all the while: it answers, and it is asked for what it has.
//!
//! **The node judges itself** and says so in its own description ([`crate::Member::damped`]). It alone sees each of its returns once: it
//! was told that it had been declared dead, or it started again and found its penalty in its state directory. Others see as many
//! of them as gossip happened to bring them, and would disagree about the ring for as long as their counts differ. Whether a ring heeds it is a rule over
//! the members of a view (`view::owning`), the same for all who have that view.

use std::time::Duration;

/// Penalty of a node above which it owns nothing: five returns within a minute, or one every 50 s for good.
const DAMP_ABOVE: f64 = 4.0;
/// Penalty below which it owns blocks again: one half-life after the fifth return.
const OWN_BELOW: f64 = 2.0;
/// Largest penalty: three half-lives, 6 minutes with the default one, are the longest sentence.
const PENALTY_MAX: f64 = 16.0;

/// One node's record of its own returns. Times are the protocol's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Damping {
    half_life: Duration,
    penalty: f64,
    at: Duration,
    damped: bool,
}

impl Damping {
    /// The record of a node that starts at time zero, with the `penalty` it had `ago`.
    pub(crate) fn new(half_life: Duration, penalty: f64, ago: Duration) -> Damping {
        let penalty = if penalty.is_finite() { penalty.clamp(0.0, PENALTY_MAX) } else { 0.0 };
        Damping { half_life, penalty: penalty * decay(ago, half_life), at: Duration::ZERO, damped: false }
    }

    /// The node has come back.
    pub(crate) fn returned(&mut self, now: Duration) {
        self.penalty = (self.penalty(now) + 1.0).min(PENALTY_MAX);
        self.at = now;
        self.damped |= self.penalty > DAMP_ABOVE;
    }

    /// Ends the sentence if it has been served; true if it did.
    pub(crate) fn release(&mut self, now: Duration) -> bool {
        let served = self.until().is_some_and(|until| until <= now);
        self.damped &= !served;
        served
    }

    /// Whether the node owns nothing.
    pub(crate) fn is_damped(&self) -> bool {
        self.damped
    }

    /// When the sentence ends; `None` without one.
    pub(crate) fn until(&self) -> Option<Duration> {
        let half_lives = (self.penalty / OWN_BELOW).log2().max(0.0);
        self.damped.then(|| self.at + self.half_life.mul_f64(half_lives))
    }

    /// The penalty now.
    pub(crate) fn penalty(&self, now: Duration) -> f64 {
        self.penalty * decay(now.saturating_sub(self.at), self.half_life)
    }
}

fn decay(passed: Duration, half_life: Duration) -> f64 {
    (-passed.as_secs_f64() / half_life.as_secs_f64()).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: Duration = Duration::from_secs(120);

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A node that returns `times` times, every `gap`; the time after the last return.
    fn flapped(times: u32, gap: Duration) -> (Damping, Duration) {
        let mut damping = Damping::new(HALF_LIFE, 0.0, Duration::ZERO);
        (1..=times).for_each(|n| damping.returned(gap * n));
        (damping, gap * times)
    }

    #[test]
    fn five_quick_returns_are_too_many_and_four_are_not() {
        assert!(!flapped(4, secs(3)).0.is_damped());
        assert!(flapped(5, secs(3)).0.is_damped());
        assert!(!flapped(1000, secs(60)).0.is_damped());
        assert!(flapped(1000, secs(45)).0.is_damped());
    }

    #[test]
    fn sentence_grows_with_the_returns_up_to_a_bound_and_ends() {
        let mut sentences = Vec::new();
        for times in [5, 8, 12, 30, 1000] {
            let (mut damping, now) = flapped(times, secs(1));
            let until = damping.until().unwrap();
            assert!(!damping.release(until - secs(1)));
            assert!(damping.release(until) && !damping.is_damped());
            assert!(!damping.release(until), "once");
            assert_eq!(damping.until(), None);
            sentences.push(until - now);
        }
        assert!(sentences[0] > HALF_LIFE, "{sentences:?}");
        assert!(sentences.is_sorted() && sentences[0] < sentences[1] && sentences[4] <= HALF_LIFE * 3, "{sentences:?}");
    }

    #[test]
    fn penalty_of_a_former_run_counts_as_far_as_it_has_not_decayed() {
        for (penalty, ago, damped) in
            [(4.0, secs(1), true), (4.0, secs(120), false), (f64::NAN, secs(0), false), (1e9, secs(0), true)]
        {
            let mut damping = Damping::new(HALF_LIFE, penalty, ago);
            damping.returned(Duration::ZERO);
            assert_eq!(damping.is_damped(), damped, "{penalty} {ago:?}");
            assert!(damping.penalty(Duration::ZERO) <= PENALTY_MAX);
        }
    }
}
