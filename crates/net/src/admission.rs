//! Who may be answered: bounds on gets and their bytes, of which a class of work gets the more the more urgent it is.
//!
//! The lowest classes are turned away first, so that what is left always has room for a more urgent request. Turning away costs
//! a head; waiting would cost memory on both sides, and hide the overload from who could go elsewhere.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_runtime::rng;
use shoal_types::Class;
use tokio::sync::Notify;

/// How much of a bound `class` may fill, in quarters.
fn quarters(class: Class) -> u64 {
    match class {
        Class::Foreground => 4,
        Class::Fill => 3,
        Class::WarmUp => 2,
        Class::Background => 1,
    }
}

/// The part of `bound` that may be in use when `class` wants in.
pub(crate) fn share(bound: u64, class: Class) -> u64 {
    bound * quarters(class) / 4
}

/// When a request of `class` that was turned away may come again: a few milliseconds drain some of the gets of any node that
/// moves; less urgent work can stay away longer. Varied, so that those turned away together do not return together.
pub(crate) fn retry_after(class: Class) -> Duration {
    let base = match class {
        Class::Foreground => 10,
        Class::Fill => 50,
        Class::WarmUp => 250,
        Class::Background => 1000,
    };
    rng::jitter(Duration::from_millis(base), 0.5)
}

/// Room for gets, and for the bytes they may hold while they are answered.
pub(crate) struct Room {
    gets_max: u64,
    bytes_max: u64,
    used: Mutex<Used>,
    emptied: Notify,
}

#[derive(Default)]
struct Used {
    gets: u64,
    bytes: u64,
    closed: bool,
}

/// One get's room; given back when dropped.
pub(crate) struct Entry {
    room: Arc<Room>,
    bytes: u64,
}

impl Room {
    pub(crate) fn new(gets_max: u64, bytes_max: u64) -> Arc<Room> {
        Arc::new(Room { gets_max, bytes_max, used: Mutex::new(Used::default()), emptied: Notify::new() })
    }

    /// Room for a get of `class` for at most `bytes` bytes; `None` if its class has had its share, or after [`Room::close`]. Bytes
    /// may pass their bound by one get: the largest one gets in too when nothing else is in the way.
    pub(crate) fn enter(self: &Arc<Room>, class: Class, bytes: u64) -> Option<Entry> {
        let mut used = self.used.lock();
        let full = used.gets >= share(self.gets_max, class) || used.bytes >= share(self.bytes_max, class);
        if full || used.closed {
            return None;
        }
        used.gets += 1;
        used.bytes += bytes;
        Some(Entry { room: self.clone(), bytes })
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.used.lock().closed = true;
    }

    /// Waits until nobody is in.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.used.lock().gets == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Entry {
    /// Gives back what the get does not need, once its answer's length is known.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.room.used.lock().bytes -= self.bytes - bytes;
            self.bytes = bytes;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut used = self.room.used.lock();
        used.gets -= 1;
        used.bytes -= self.bytes;
        if used.gets == 0 {
            self.room.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_class_never_takes_the_last_quarter_of_a_higher_one() {
        let room = Room::new(8, u64::MAX / 4);
        let mut inside = Vec::new();
        for (class, fitting) in [(Class::Background, 2), (Class::WarmUp, 2), (Class::Fill, 2), (Class::Foreground, 2)] {
            for _ in 0..fitting {
                inside.push(room.enter(class, 1).unwrap());
            }
            assert!(room.enter(class, 1).is_none(), "{class}");
        }
        // Room that is given back goes to the most urgent first.
        inside.pop();
        assert!(room.enter(Class::Fill, 1).is_none());
        assert!(room.enter(Class::Foreground, 1).is_some());
    }

    #[test]
    fn bytes_are_bounded_up_to_one_get() {
        let room = Room::new(100, 400);
        let background = room.enter(Class::Background, 1000).unwrap();
        assert!(room.enter(Class::Foreground, 1).is_none());
        drop(background);
        let mut first = room.enter(Class::WarmUp, 250).unwrap();
        assert!(room.enter(Class::WarmUp, 1).is_none());
        assert!(room.enter(Class::Fill, 1).is_some());
        first.shrink_to(100);
        first.shrink_to(300);
        assert!(room.enter(Class::WarmUp, 1).is_some());
        assert!(room.enter(Class::Background, 1).is_none());
    }

    #[tokio::test]
    async fn a_closed_room_is_empty_once_the_last_has_left() {
        let room = Room::new(4, 4);
        let entry = room.enter(Class::Foreground, 1).unwrap();
        room.close();
        assert!(room.enter(Class::Foreground, 1).is_none());
        let waiting = room.clone();
        let waiting = shoal_runtime::task::spawn("test-empty", async move { waiting.empty().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(entry);
        waiting.await.unwrap();
    }

    #[test]
    fn advice_fits_its_field_and_grows_as_urgency_falls() {
        for (class, low, high) in [(Class::Foreground, 5, 15), (Class::Background, 500, 1500)] {
            let ms = retry_after(class).as_millis();
            assert!((low..=high).contains(&ms), "{class}: {ms}");
        }
    }
}
