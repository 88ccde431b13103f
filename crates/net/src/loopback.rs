//! How much may be in flight over loopback.
//!
//! Nothing is in between but the peer's socket buffer, whose size is known: what passes it is lost. So flight starts at what fits
//! and falls only when several connections share that buffer. Cubic finds the same bound by losing packets again and again.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

use crate::limits::{LOOPBACK_FLIGHT, LOOPBACK_FLIGHT_MIN};

/// Makes [`Loopback`] controllers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopbackConfig;

impl ControllerFactory for LoopbackConfig {
    fn build(self: Arc<Self>, now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Loopback { window: LOOPBACK_FLIGHT, reduced: now })
    }
}

/// Halves with each loss, and grows by a 64th of the ceiling with each batch of acknowledgements.
#[derive(Debug, Clone, Copy)]
struct Loopback {
    window: u64,
    /// Losses of what was sent before are known already.
    reduced: Instant,
}

impl Controller for Loopback {
    fn on_end_acks(&mut self, _now: Instant, _in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        if !app_limited {
            self.window = (self.window + LOOPBACK_FLIGHT / 64).min(LOOPBACK_FLIGHT);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, _persistent: bool, _lost_bytes: u64) {
        if sent > self.reduced {
            self.reduced = now;
            self.window = (self.window / 2).max(LOOPBACK_FLIGHT_MIN);
        }
    }

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn initial_window(&self) -> u64 {
        LOOPBACK_FLIGHT
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shoal_runtime::clock;

    use super::*;

    #[test]
    fn flight_falls_with_a_loss_once_and_comes_back() {
        let now = clock::now();
        let mut controller = Arc::new(LoopbackConfig).build(now, 1200);
        let later = |ms| now + Duration::from_millis(ms);
        assert_eq!(controller.window(), LOOPBACK_FLIGHT);
        controller.on_congestion_event(later(2), later(1), false, 1);
        // Sent before the reduction: the same event.
        controller.on_congestion_event(later(3), later(1), false, 1);
        assert_eq!(controller.window(), LOOPBACK_FLIGHT / 2);
        for ms in 0..20 {
            controller.on_congestion_event(later(11 + 2 * ms), later(10 + 2 * ms), true, 1);
        }
        assert_eq!(controller.window(), LOOPBACK_FLIGHT_MIN);
        controller.on_end_acks(later(60), 0, true, None);
        assert_eq!(controller.window(), LOOPBACK_FLIGHT_MIN);
        (0..64).for_each(|_| controller.on_end_acks(later(60), 0, false, None));
        assert_eq!(controller.window(), LOOPBACK_FLIGHT);
    }
}
