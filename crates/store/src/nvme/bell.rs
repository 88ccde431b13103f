//! A bell that ends a thread: it waits for the bell instead of sleeping.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rang: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Rings, for good.
    pub(crate) fn ring(&self) {
        *self.rang.lock() = true;
        self.changed.notify_all();
    }

    /// Waits for `time`, or until the bell rings; whether it did.
    pub(crate) fn rang_within(&self, time: Duration) -> bool {
        let mut rang = self.rang.lock();
        if !*rang {
            self.changed.wait_for(&mut rang, time);
        }
        *rang
    }
}
