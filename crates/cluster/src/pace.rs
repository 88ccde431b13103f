//! The protocol's clock: real time without the time in which this process could not run.

use std::time::Duration;

/// Lateness that still counts: ordinary scheduling. Well below the gap between two timers of one probe.
const LATENESS_COUNTED: Duration = Duration::from_millis(100);

/// Turns real time into protocol time.
///
/// A process that was frozen for ten seconds has not listened for ten seconds; if those counted, every probe and suspicion in
/// flight would run out at once and it would declare its healthy peers dead. So the part of a wake-up that came later than
/// planned by more than [`LATENESS_COUNTED`] is left out.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    protocol: Duration,
    real: Duration,
}

impl Pace {
    /// Protocol time at real time `real`, given that the process meant to be awake at `planned` at the latest.
    pub(crate) fn wake(&mut self, real: Duration, planned: Duration) -> Duration {
        let passed = real.saturating_sub(self.real);
        let late = real.saturating_sub(planned).min(passed);
        self.protocol += passed - late.saturating_sub(LATENESS_COUNTED);
        self.real = self.real.max(real);
        self.protocol
    }

    /// Real time at which the protocol's `deadline` is due.
    pub(crate) fn real(&self, deadline: Duration) -> Duration {
        self.real.saturating_add(deadline.saturating_sub(self.protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_stall_does_not_count() {
        let mut pace = Pace::default();
        assert_eq!(pace.wake(ms(200), ms(200)), ms(200));
        // Woken early by a packet.
        assert_eq!(pace.wake(ms(250), ms(400)), ms(250));
        // A little late.
        assert_eq!(pace.wake(ms(450), ms(400)), ms(450));
        // Frozen for five seconds: only the planned time and the counted lateness pass.
        assert_eq!(pace.wake(ms(5600), ms(600)), ms(700));
        assert_eq!(pace.real(ms(900)), ms(5800));
    }

    #[test]
    fn time_never_goes_back() {
        let mut pace = Pace::default();
        pace.wake(ms(500), ms(500));
        assert_eq!(pace.wake(ms(400), ms(100)), ms(500));
        assert_eq!(pace.wake(ms(600), ms(600)), ms(600));
    }
}
