//! Whether a node is asked: a circuit breaker.
//!
//! Pure: time comes in as an argument. A node that failed is left alone for a while that doubles with every failure in a row, and
//! for longer while most of what it was asked lately failed; a node that is many times slower than the others likewise, for
//! longer. Then one read tries it, while others still go elsewhere, and how that goes decides.

use std::time::{Duration, Instant};

/// First time a node is left alone. Half a second of reads go elsewhere after one lost packet too many.
const FIRST: Duration = Duration::from_millis(500);
/// Longest time a node is left alone: how late a node that came back may be noticed.
const LONGEST: Duration = Duration::from_secs(10);
/// The same for a slow one, which costs time with every trial and no errors.
const SLOW_FIRST: Duration = Duration::from_secs(2);
const SLOW_LONGEST: Duration = Duration::from_secs(30);
/// Least time a node is left alone when it fails with most of what it was asked lately.
const MOSTLY_FAILING: Duration = Duration::from_secs(4);
/// Time in which what is remembered of earlier outcomes fades to a half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Outcomes remembered before their share says anything.
const OUTCOMES_MIN: f32 = 8.0;
/// Share of failures from which a node counts as failing, however many answers are in between.
const FAILING_SHARE: f32 = 0.5;

/// What is known of how one node fares.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    failures_in_a_row: u32,
    slow_in_a_row: u32,
    failed_at: Option<Instant>,
    not_before: Option<Instant>,
    /// The time has come, and one read is finding out.
    on_trial: bool,
    recent: Recent,
}

/// Outcomes that fade with time.
#[derive(Debug, Clone, Default)]
struct Recent {
    answers: f32,
    failures: f32,
    at: Option<Instant>,
}

/// What a node may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Anything.
    Open,
    /// This one read, to see how it fares.
    Trial,
    /// Nothing now.
    Shut,
}

impl Breaker {
    /// Whether the node may be asked now. For one whose time has come, [`Gate::Trial`] once in `trial`, the time a read may wait.
    pub(crate) fn gate(&mut self, trial: Duration, now: Instant) -> Gate {
        match self.not_before {
            None => Gate::Open,
            Some(not_before) if now < not_before => Gate::Shut,
            Some(_) => {
                self.not_before = Some(now + trial);
                self.on_trial = true;
                Gate::Trial
            }
        }
    }

    /// True while the node is left alone or on trial.
    pub(crate) fn is_avoided(&self) -> bool {
        self.not_before.is_some()
    }

    /// The node answered, as fast as it should.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.recent.count(now, 1.0, 0.0);
        if self.not_before.is_some() {
            // One answer of a node that mostly fails does not make its next failure the first one.
            self.failures_in_a_row = if self.recent.mostly_failing() { self.failures_in_a_row / 2 } else { 0 };
            self.slow_in_a_row = 0;
            self.not_before = None;
            self.on_trial = false;
        }
    }

    /// The node, asked at `asked`, could not be reached, said nothing or gave damaged bytes.
    pub(crate) fn failed(&mut self, asked: Instant, now: Instant) {
        self.recent.count(now, 0.0, 1.0);
        // Requests that were under way together fail together: they are one failure.
        if self.failed_at.is_some_and(|failed_at| asked <= failed_at) {
            return;
        }
        self.failures_in_a_row += 1;
        let mut pause = doubled(FIRST, self.failures_in_a_row, LONGEST);
        if self.recent.mostly_failing() {
            pause = pause.max(MOSTLY_FAILING);
        }
        self.failed_at = Some(now);
        self.shut(now + pause);
    }

    /// The node answers, but far slower than others do.
    pub(crate) fn slow(&mut self, now: Instant) {
        self.recent.count(now, 1.0, 0.0);
        // Answers that were under way together are slow together.
        if self.not_before.is_some_and(|not_before| now < not_before) && !self.on_trial {
            return;
        }
        self.slow_in_a_row += 1;
        self.shut(now + doubled(SLOW_FIRST, self.slow_in_a_row, SLOW_LONGEST));
    }

    fn shut(&mut self, not_before: Instant) {
        self.not_before = Some(not_before);
        self.on_trial = false;
    }
}

fn doubled(first: Duration, time: u32, longest: Duration) -> Duration {
    longest.min(first * 2u32.pow((time - 1).min(8)))
}

impl Recent {
    fn count(&mut self, now: Instant, answers: f32, failures: f32) {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        // Fading is worked out once in a while: this is on the way of every answer.
        if age > HALF_LIFE / 8 || self.at.is_none() {
            let left = (-(age.as_secs_f32() / HALF_LIFE.as_secs_f32())).exp2();
            (self.answers, self.failures, self.at) = (self.answers * left, self.failures * left, Some(now));
        }
        self.answers += answers;
        self.failures += failures;
    }

    fn mostly_failing(&self) -> bool {
        let all = self.answers + self.failures;
        all >= OUTCOMES_MIN && self.failures >= all * FAILING_SHARE
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;

    use super::*;

    const TRIAL: Duration = Duration::from_secs(5);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_failed_node_is_left_alone_then_tried_by_one() {
        let (mut node, start) = (Breaker::default(), clock::now());
        assert_eq!(node.gate(TRIAL, start), Gate::Open);
        node.failed(start, start);
        assert!(node.is_avoided());
        assert_eq!(node.gate(TRIAL, start), Gate::Shut);
        let later = start + FIRST;
        assert_eq!(node.gate(TRIAL, later), Gate::Trial);
        assert_eq!(node.gate(TRIAL, later), Gate::Shut, "one read tries it, the others wait");
        assert_eq!(node.gate(TRIAL, later + TRIAL), Gate::Trial, "a trial without an end does not lock it out");
        node.answered(later);
        assert_eq!((node.gate(TRIAL, later), node.gate(TRIAL, later)), (Gate::Open, Gate::Open));
    }

    #[test]
    fn pauses_grow_to_their_bound_and_shared_failures_count_once() {
        let (mut node, mut now) = (Breaker::default(), clock::now());
        node.failed(now, now);
        (0..3).for_each(|_| node.failed(now, now));
        assert_eq!(node.gate(TRIAL, now + FIRST), Gate::Trial, "requests under way together are one failure");
        for _ in 0..12 {
            now += LONGEST;
            assert_eq!(node.gate(TRIAL, now), Gate::Trial);
            let asked = now;
            now += TRIAL;
            node.failed(asked, now);
        }
        assert_eq!(node.gate(TRIAL, now + LONGEST - MS), Gate::Shut);
        assert_eq!(node.gate(TRIAL, now + LONGEST), Gate::Trial);
    }

    /// Asks for `time`, every 100 ms when the node may be asked; every `n`th ask fails. Gives the share of asks that went there.
    fn share_asked(node: &mut Breaker, now: &mut Instant, time: Duration, n: u32) -> f64 {
        let (end, mut asked, mut turns) = (*now + time, 0u32, 0u32);
        while *now < end {
            *now += 100 * MS;
            turns += 1;
            if node.gate(TRIAL, *now) != Gate::Shut {
                asked += 1;
                if asked.is_multiple_of(n) { node.failed(*now, *now) } else { node.answered(*now) }
            }
        }
        f64::from(asked) / f64::from(turns)
    }

    #[test]
    fn a_node_that_fails_every_second_time_is_avoided_more_than_one_that_fails_rarely() {
        let minute = Duration::from_secs(60);
        let mut now = clock::now();
        let rarely = share_asked(&mut Breaker::default(), &mut now, minute, 50);
        let mut failing = Breaker::default();
        let often = share_asked(&mut failing, &mut now, minute, 2);
        assert!(rarely > 0.8 && often < 0.35, "{rarely} {often}");
        let again = share_asked(&mut failing, &mut now, minute, u32::MAX);
        assert!(again > 0.9, "who is well again is asked again: {again}");
    }

    #[test]
    fn a_slow_node_is_tried_ever_more_rarely_until_it_is_fast() {
        let (mut node, mut now) = (Breaker::default(), clock::now());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            (0..5).for_each(|_| node.slow(now));
            let slow_at = now;
            while node.gate(TRIAL, now) == Gate::Shut {
                now += 100 * MS;
            }
            pauses.push((now - slow_at).as_secs());
            now += MS;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
        node.answered(now);
        assert_eq!(node.gate(TRIAL, now), Gate::Open);
        node.slow(now);
        assert_eq!(node.gate(TRIAL, now + SLOW_FIRST), Gate::Trial);
    }
}
