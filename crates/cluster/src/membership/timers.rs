//! The protocol's timers in the order they must fire.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use foca::Timer;

use crate::identity::Identity;

/// Timers by deadline; equal deadlines in the order foca asks for (`Timer`'s own), then as they came.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Due>>,
    pushed: u64,
}

impl Timers {
    pub(super) fn push(&mut self, at: Duration, timer: Timer<Identity>) {
        self.pushed += 1;
        self.heap.push(Reverse(Due { at, number: self.pushed, timer }));
    }

    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Timer<Identity>> {
        if self.next_deadline()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due.timer)
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }
}

struct Due {
    at: Duration,
    number: u64,
    timer: Timer<Identity>,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        let by_kind = || self.timer.cmp(&other.timer);
        self.at.cmp(&other.at).then_with(by_kind).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}
