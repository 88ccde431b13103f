//! How long a peer usually takes, and when it is late.
//!
//! Pure: times come in as arguments. A mean and a mean deviation are kept for each kind of wait. Only what a peer held itself counts as its time to
//! answer: one that fetches takes as long as the origin takes.

use std::time::Duration;

use shoal_runtime::estimate::Estimate;

/// Answers of at most this many bytes are small: they are one wait, from the ask to the last byte.
pub(crate) const SMALL_ANSWER: u32 = 128 << 10;

/// What a peer is waited for. Bodies are timed in microseconds per MiB, everything else in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// All of a small answer.
    Small,
    /// The head of a larger one.
    Head,
    /// A MiB of a block the peer holds.
    Held,
    /// A MiB of a block the peer is fetching.
    Fetched,
}

impl Wait {
    const ALL: [Wait; 4] = [Wait::Small, Wait::Head, Wait::Held, Wait::Fetched];

    /// What an answer of `len` bytes begins with.
    pub(crate) fn first(len: u32) -> Wait {
        if len <= SMALL_ANSWER { Wait::Small } else { Wait::Head }
    }
}

/// Samples before a peer's mean is compared with others'.
const COMPARED_MIN: u32 = 3;
/// A peer is slow if it takes so many times as long as the others usually do.
const SLOW_FACTOR: u32 = 8;
/// A difference below this is no slowness, however many times the usual time it is; of bodies it is 20 MiB/s.
const SLOW_FLOOR: Duration = Duration::from_millis(50);

/// The times of one peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latency([Estimate; 4]);

impl Latency {
    /// The peer took `time` for `wait`; for a body, see [`per_mib`].
    pub(crate) fn learn(&mut self, wait: Wait, time: Duration) {
        self.0[wait as usize].learn(time);
    }

    /// How long `wait` takes at most, but for one time in a hundred; `None` while too little is known.
    pub(crate) fn bound(&self, wait: Wait) -> Option<Duration> {
        self.0[wait as usize].bound()
    }

    /// True if any wait takes many times as long as `usual`.
    pub(crate) fn is_slow(&self, usual: &Usual) -> bool {
        Wait::ALL
            .iter()
            .any(|&wait| self.0[wait as usize].mean(COMPARED_MIN).is_some_and(|mean| usual.exceeds(wait, mean)))
    }

    /// Begins anew: what was learned is true no more.
    pub(crate) fn forget(&mut self) {
        *self = Latency::default();
    }
}

/// What peers usually take: the median of their means, where there are any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usual([Option<Duration>; 4]);

impl Usual {
    /// Of some peers. With an even number the lower of the two in the middle: of two peers the slow one is not the usual.
    pub(crate) fn of<'a>(peers: impl IntoIterator<Item = &'a Latency>) -> Usual {
        let mut means: [Vec<Duration>; 4] = Default::default();
        for peer in peers {
            for wait in Wait::ALL {
                means[wait as usize].extend(peer.0[wait as usize].mean(COMPARED_MIN));
            }
        }
        Usual(means.map(|mut means| {
            means.sort();
            means.get(means.len().checked_sub(1)? / 2).copied()
        }))
    }

    /// True if `time` is many times the usual one, by more than is worth a word.
    pub(crate) fn exceeds(&self, wait: Wait, time: Duration) -> bool {
        self.0[wait as usize].is_some_and(|usual| time > usual * SLOW_FACTOR && time - usual > SLOW_FLOOR)
    }
}

/// `elapsed` for `bytes` of a body as the time of a MiB.
pub(crate) fn per_mib(elapsed: Duration, bytes: u64) -> Duration {
    elapsed.mul_f64((1 << 20) as f64 / bytes.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn with(wait: Wait, times: impl IntoIterator<Item = Duration>) -> Latency {
        let mut latency = Latency::default();
        times.into_iter().for_each(|time| latency.learn(wait, time));
        latency
    }

    #[test]
    fn nothing_is_late_before_enough_is_known() {
        assert!(with(Wait::Small, [MS; 7]).bound(Wait::Small).is_none());
        let known = with(Wait::Small, [MS; 8]);
        assert!(known.bound(Wait::Small).is_some() && known.bound(Wait::Head).is_none());
    }

    #[test]
    fn the_bound_is_above_nearly_all_answers_and_not_far_above() {
        // Exponential times of mean 10 ms by inverting evenly spread quantiles, in a fixed shuffle.
        let times: Vec<Duration> = (0..1000u32)
            .map(|i| (f64::from((i * 617) % 1000) + 0.5) / 1000.0)
            .map(|quantile| MS.mul_f64(-10.0 * (1.0 - quantile).ln()))
            .collect();
        let bound = with(Wait::Head, times.iter().copied()).bound(Wait::Head).unwrap();
        let late = times.iter().filter(|time| **time > bound).count();
        assert!(late <= 40 && bound < 120 * MS, "{late} of 1000 above {bound:?}");
        let steady = with(Wait::Head, [10 * MS; 100]).bound(Wait::Head).unwrap();
        assert!(steady >= 10 * MS && steady < 12 * MS, "{steady:?}");
    }

    #[test]
    fn a_change_is_followed_within_some_dozens_of_answers() {
        let mut latency = with(Wait::Small, [MS; 100]);
        (0..40).for_each(|_| latency.learn(Wait::Small, 30 * MS));
        assert!(latency.bound(Wait::Small).unwrap() > 30 * MS, "who is slower as a rule is not late");
        (0..200).for_each(|_| latency.learn(Wait::Small, MS));
        assert!(latency.bound(Wait::Small).unwrap() < 5 * MS);
    }

    #[test]
    fn a_peer_many_times_slower_than_the_others_is_slow() {
        let fast = with(Wait::Held, [2 * MS; 10]);
        let shaped = with(Wait::Held, [400 * MS; 3]);
        let somewhat = with(Wait::Held, [10 * MS; 10]);
        for peers in [vec![&fast, &shaped], vec![&fast, &fast, &somewhat, &shaped], vec![&fast, &shaped, &somewhat]] {
            let usual = Usual::of(peers);
            assert!(shaped.is_slow(&usual) && !fast.is_slow(&usual) && !somewhat.is_slow(&usual));
        }
        let alone = Usual::of([&shaped]);
        assert!(!shaped.is_slow(&alone), "with nobody to compare it is the usual");
        assert!(alone.exceeds(Wait::Held, 4000 * MS) && !alone.exceeds(Wait::Held, 3000 * MS));
        assert!(!Usual::default().exceeds(Wait::Held, 4000 * MS));
        // Eight times nothing is nothing.
        let (quick, late) = (with(Wait::Small, [MS / 50; 10]), with(Wait::Small, [MS; 10]));
        assert!(!late.is_slow(&Usual::of([&quick, &late])));
    }

    #[test]
    fn bodies_are_compared_by_the_mib() {
        assert_eq!(per_mib(80 * MS, 4 << 20), 20 * MS);
        assert_eq!(per_mib(10 * MS, 512 << 10), 20 * MS);
        assert!(per_mib(MS, 0) > Duration::from_secs(1));
    }
}
