//! Rings of a simulation: a thousand nodes in one process that see the same members share one ring, which takes megabytes and
//! milliseconds.

use std::cell::RefCell;
use std::collections::VecDeque;

use shoal_ring::{Ring, RingMember};

/// Rings kept: more than views differ while a ring changes.
const KEPT: usize = 128;

thread_local! {
    static RECENT: RefCell<VecDeque<Ring>> = const { RefCell::new(VecDeque::new()) };
}

/// The ring of `members`: one that this thread made before, else what `make` gives.
pub(crate) fn shared(members: &[RingMember], make: impl FnOnce() -> Ring) -> Ring {
    let known = RECENT.with_borrow(|recent| recent.iter().find(|ring| ring.members() == members).cloned());
    known.unwrap_or_else(|| {
        let ring = make();
        RECENT.with_borrow_mut(|recent| {
            recent.truncate(KEPT - 1);
            recent.push_front(ring.clone());
        });
        ring
    })
}
