//! When to ask the seeds, and which of them.

use std::time::Duration;

use crate::timing::Timing;

/// Part of a pause by which it may be longer, so that nodes started together do not ask together.
const JITTER: f64 = 0.25;

/// Paces the rounds in which the seeds that are not in the view are asked for theirs.
///
/// Alone: soon, then at doubling pauses up to `seeds_every`. In company: every `seeds_every`, for good, because a ring that
/// broke in two has no other way to hear of its other half.
#[derive(Debug)]
pub(crate) struct Rounds {
    at: Duration,
    pause: Duration,
    first: Duration,
    every: Duration,
}

impl Rounds {
    /// The first round is due at once.
    pub(crate) fn new(timing: &Timing) -> Rounds {
        let first = timing.seeds_first.min(timing.seeds_every);
        Rounds { at: Duration::ZERO, pause: first, first, every: timing.seeds_every }
    }

    /// When the next round is due.
    pub(crate) fn next(&self) -> Duration {
        self.at
    }

    /// A round has begun; `chance` in `0.0..1.0` spreads the next one.
    pub(crate) fn begun(&mut self, now: Duration, alone: bool, chance: f64) {
        let pause = if alone { self.pause } else { self.every };
        self.pause = if alone { (self.pause * 2).min(self.every) } else { self.first };
        self.at = now + pause.mul_f64(1.0 + JITTER * chance);
    }

    /// This node has lost its last peer: ask soon.
    pub(crate) fn lost_everyone(&mut self, now: Duration) {
        self.pause = self.first;
        self.at = self.at.min(now + self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_while_alone_and_are_steady_in_company() {
        let timing = Timing::default();
        let mut rounds = Rounds::new(&timing);
        assert_eq!(rounds.next(), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            rounds.begun(now, true, 0.0);
            pauses.push((rounds.next() - now).as_millis());
            now = rounds.next();
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        rounds.begun(now, false, 1.0);
        assert_eq!(rounds.next() - now, timing.seeds_every.mul_f64(1.25));
        rounds.lost_everyone(now);
        assert_eq!(rounds.next() - now, timing.seeds_first);
    }
}
