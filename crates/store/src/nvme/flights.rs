//! Writes of one directory that are with the device: how many, and in which segments.
//!
//! The writer may block on this; completions, which run on I/O threads, only count down.

use std::collections::HashMap;

use parking_lot::{Condvar, Mutex};

/// Writes with the device at once: raw 4 MiB writes were no faster at depth 8 than at 1; a few hide the copying in between.
const WRITES_MAX: u32 = 4;

/// Counts of writes under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_segment: HashMap<u32, u32>,
}

impl Flights {
    /// Counts one more write to `segment`; waits while there are too many.
    pub(crate) fn begin(&self, segment: u32) {
        let mut counts = self.counts.lock();
        while counts.total >= WRITES_MAX {
            self.changed.wait(&mut counts);
        }
        counts.total += 1;
        *counts.by_segment.entry(segment).or_default() += 1;
    }

    /// Counts one less.
    pub(crate) fn end(&self, segment: u32) {
        let mut counts = self.counts.lock();
        counts.total -= 1;
        if let Some(count) = counts.by_segment.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                counts.by_segment.remove(&segment);
            }
        }
        drop(counts);
        self.changed.notify_all();
    }

    /// Whether a write to `segment` is under way.
    pub(crate) fn busy(&self, segment: u32) -> bool {
        self.counts.lock().by_segment.contains_key(&segment)
    }

    /// Waits until no write to `segment` is under way.
    pub(crate) fn settle(&self, segment: u32) {
        let mut counts = self.counts.lock();
        while counts.by_segment.contains_key(&segment) {
            self.changed.wait(&mut counts);
        }
    }

    /// Waits until no write is under way.
    pub(crate) fn settle_all(&self) {
        let mut counts = self.counts.lock();
        while counts.total > 0 {
            self.changed.wait(&mut counts);
        }
    }
}
