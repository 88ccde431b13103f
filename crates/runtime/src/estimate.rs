//! What a time usually is, and what it exceeds once in a hundred: for whoever must tell late from slow.
//!
//! Pure. A mean and a mean deviation with exponential weights, in the manner of TCP's retransmission timer (RFC 6298): 12 bytes
//! however many samples.

use std::time::Duration;

/// Samples before [`Estimate::bound`] says anything: with fewer, one slow answer would move it anywhere.
pub const SAMPLES_MIN: u32 = 8;
/// Weight of a new sample once there are many. 1/16 follows a change within a few dozen samples.
const GAIN: f32 = 1.0 / 16.0;
/// Deviations above the mean that count as late. Of exponential and of normal times 5 is about the 99th percentile.
const DEVIATIONS: f32 = 5.0;

/// Mean and mean deviation of a time, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Estimate {
    mean: f32,
    deviation: f32,
    samples: u32,
}

impl Estimate {
    /// It was `time` once more.
    pub fn learn(&mut self, time: Duration) {
        let time = time.as_micros() as f32;
        self.samples = self.samples.saturating_add(1);
        if self.samples == 1 {
            (self.mean, self.deviation) = (time, time / 2.0);
            return;
        }
        let gain = GAIN.max(1.0 / self.samples as f32);
        self.deviation += gain * ((time - self.mean).abs() - self.deviation);
        self.mean += gain * (time - self.mean);
    }

    /// What it is at most, but for one time in a hundred; `None` before [`SAMPLES_MIN`] samples.
    pub fn bound(&self) -> Option<Duration> {
        (self.samples >= SAMPLES_MIN).then(|| micros(self.mean + DEVIATIONS * self.deviation))
    }

    /// What it usually is; `None` before `samples_min` samples, at least one.
    pub fn mean(&self, samples_min: u32) -> Option<Duration> {
        (self.samples >= samples_min.max(1)).then(|| micros(self.mean))
    }
}

fn micros(time: f32) -> Duration {
    Duration::from_micros(time as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn too_few_samples_say_nothing() {
        let mut estimate = Estimate::default();
        assert!(estimate.mean(0).is_none());
        (0..7).for_each(|_| estimate.learn(MS));
        assert!(estimate.bound().is_none() && estimate.mean(8).is_none());
        assert_eq!(estimate.mean(7), Some(MS));
        estimate.learn(MS);
        assert!(estimate.bound().is_some_and(|bound| bound >= MS && bound < 4 * MS));
    }

    #[test]
    fn the_mean_follows_a_change() {
        let mut estimate = Estimate::default();
        (0..1000).for_each(|_| estimate.learn(MS));
        (0..100).for_each(|_| estimate.learn(10 * MS));
        assert!(estimate.mean(1).is_some_and(|mean| mean > 9 * MS && mean < 11 * MS));
    }
}
