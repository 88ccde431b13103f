//! Which inodes this client has open, and how often: what is open outlives its last name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;
use shoal_format::Ino;

/// Open counts.
#[derive(Debug, Default)]
pub(super) struct Opens(Mutex<HashMap<Ino, u32>>);

impl Opens {
    /// One more handle.
    pub(super) fn opened(&self, ino: Ino) {
        *self.0.lock().entry(ino).or_default() += 1;
    }

    /// One handle less; true if it was the last.
    pub(super) fn closed(&self, ino: Ino) -> bool {
        match self.0.lock().entry(ino) {
            Entry::Occupied(mut entry) if *entry.get() > 1 => {
                *entry.get_mut() -= 1;
                false
            }
            Entry::Occupied(entry) => {
                entry.remove();
                true
            }
            Entry::Vacant(_) => false,
        }
    }

    /// True while there is a handle.
    pub(super) fn is_open(&self, ino: Ino) -> bool {
        self.0.lock().contains_key(&ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_close_is_known() {
        let opens = Opens::default();
        opens.opened(Ino(5));
        opens.opened(Ino(5));
        assert!(!opens.closed(Ino(5)));
        assert!(opens.is_open(Ino(5)));
        assert!(opens.closed(Ino(5)));
        assert!(!opens.is_open(Ino(5)));
        assert!(!opens.closed(Ino(5)), "what is not open is not closed");
    }
}
