//! Which blocks are staged, and when each is to be stored. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Longest pause before a block that could not be stored is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The first one; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// How often is looked whether the hour has come to store blocks.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// What is known of a staged block.
#[derive(Debug)]
struct Entry {
    plain_len: u32,
    number: u64,
    due: Instant,
    attempts: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// On its way.
    Leaving,
    /// It cannot be read: it stays, and nothing is done with it.
    Stuck,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This block is to be stored; it counts as leaving.
    Store(String, u32),
    /// Nothing before this time.
    At(Instant),
    /// Nothing at all.
    Nothing,
}

/// All staged blocks.
#[derive(Debug, Default)]
pub(crate) struct Index {
    blocks: HashMap<String, Entry>,
    /// Those that wait, by the time they are due.
    waiting: BTreeSet<(Instant, u64)>,
    names: BTreeMap<u64, String>,
    next: u64,
    bytes: u64,
    stuck: usize,
    /// True once nothing waits for its time any more.
    hurried: bool,
}

impl Index {
    /// Takes in a block that is to be stored `delay` after `now`.
    pub(crate) fn insert(&mut self, key: &str, plain_len: u32, now: Instant, delay: Duration) {
        self.remove(key);
        let due = if self.hurried { now } else { now + delay };
        let number = self.next;
        self.next += 1;
        self.bytes += u64::from(plain_len);
        self.waiting.insert((due, number));
        self.names.insert(number, key.to_owned());
        let entry = Entry { plain_len, number, due, attempts: 0, state: State::Waiting };
        self.blocks.insert(key.to_owned(), entry);
    }

    /// Plain length of a staged block.
    pub(crate) fn get(&self, key: &str) -> Option<u32> {
        self.blocks.get(key).map(|entry| entry.plain_len)
    }

    /// Takes a block out. True if it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.blocks.remove(key) else { return false };
        self.waiting.remove(&(entry.due, entry.number));
        self.names.remove(&entry.number);
        self.bytes -= u64::from(entry.plain_len);
        self.stuck -= usize::from(entry.state == State::Stuck);
        true
    }

    /// The block that is due at `now` and has waited longest. Where blocks are stored at certain hours, `in_hours` says whether this
    /// is one, which only matters while nobody is in a hurry.
    pub(crate) fn next(&mut self, now: Instant, in_hours: bool) -> Next {
        let Some(&(due, number)) = self.waiting.first() else { return Next::Nothing };
        if due > now {
            return Next::At(due);
        }
        if !in_hours && !self.hurried {
            return Next::At(now + CLOCK_LOOK);
        }
        let key = self.names[&number].clone();
        let entry = self.blocks.get_mut(&key).expect("every waiting number has a block");
        entry.state = State::Leaving;
        self.waiting.remove(&(due, number));
        Next::Store(key, entry.plain_len)
    }

    /// A block could not be stored: it waits again. Gives how often that has happened.
    pub(crate) fn failed(&mut self, key: &str, now: Instant) -> u32 {
        let Some(entry) = self.blocks.get_mut(key) else { return 0 };
        let pause = PAUSE.saturating_mul(1u32.checked_shl(entry.attempts).unwrap_or(u32::MAX)).min(PAUSE_MAX);
        entry.attempts += 1;
        (entry.due, entry.state) = (now + pause, State::Waiting);
        self.waiting.insert((entry.due, entry.number));
        entry.attempts
    }

    /// A block can never be stored.
    pub(crate) fn stick(&mut self, key: &str) {
        if let Some(entry) = self.blocks.get_mut(key) {
            self.stuck += usize::from(entry.state != State::Stuck);
            entry.state = State::Stuck;
        }
    }

    /// From now on no block waits because it is young; one that failed still does.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.hurried = true;
        let young: Vec<String> =
            self.blocks.iter().filter(|(_, e)| e.attempts == 0 && e.due > now).map(|(key, _)| key.clone()).collect();
        for key in young {
            let entry = self.blocks.get_mut(&key).expect("it was just listed");
            if self.waiting.remove(&(entry.due, entry.number)) {
                self.waiting.insert((now, entry.number));
                entry.due = now;
            }
        }
    }

    /// Number of blocks, and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.blocks.len(), self.bytes)
    }

    /// True if every block that can be stored is.
    pub(crate) fn is_done(&self) -> bool {
        self.blocks.len() == self.stuck
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn blocks_leave_in_the_order_they_are_due() {
        let (mut index, now) = (Index::default(), clock::now());
        index.insert("b", 2, now, 2 * SECOND);
        index.insert("a", 1, now, SECOND);
        assert_eq!(index.next(now, true), Next::At(now + SECOND));
        assert_eq!(index.next(now + 3 * SECOND, true), Next::Store("a".into(), 1));
        assert_eq!(index.size(), (2, 3));
        assert_eq!(index.failed("a", now + 3 * SECOND), 1);
        assert_eq!(index.next(now + 3 * SECOND, true), Next::Store("b".into(), 2));
        assert!(index.remove("b") && !index.remove("b"));
        assert_eq!(index.next(now + 3 * SECOND, true), Next::At(now + 4 * SECOND));
        assert_eq!(index.next(now + 4 * SECOND, true), Next::Store("a".into(), 1));
        assert_eq!(index.failed("a", now), 2);
        assert_eq!(index.next(now, true), Next::At(now + 2 * SECOND), "the pause doubles");
        assert!(!index.is_done());
    }

    #[test]
    fn outside_its_hours_only_who_is_in_a_hurry_stores_anything() {
        let (mut index, now) = (Index::default(), clock::now());
        index.insert("a", 1, now, Duration::ZERO);
        index.insert("b", 1, now, Duration::ZERO);
        assert_eq!(index.next(now, false), Next::At(now + CLOCK_LOOK));
        assert_eq!(index.next(now, true), Next::Store("a".into(), 1));
        assert_eq!(index.next(now, false), Next::At(now + CLOCK_LOOK));
        index.hurry(now);
        assert_eq!(index.next(now, false), Next::Store("b".into(), 1));
    }

    #[test]
    fn in_a_hurry_only_failures_wait() {
        let (mut index, now) = (Index::default(), clock::now());
        index.insert("a", 1, now, 3600 * SECOND);
        index.hurry(now);
        assert_eq!(index.next(now, true), Next::Store("a".into(), 1));
        index.insert("b", 1, now, 3600 * SECOND);
        assert_eq!(index.next(now, true), Next::Store("b".into(), 1), "one that came later too");
        index.failed("b", now);
        assert_eq!(index.next(now, true), Next::At(now + SECOND));
        index.stick("b");
        index.remove("a");
        assert!(index.is_done(), "what is stuck is not waited for");
        index.remove("b");
        assert_eq!(index.size(), (0, 0));
        assert!(index.is_done());
    }
}
