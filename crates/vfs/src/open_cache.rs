//! What files looked like that were opened lately, trusted for a while: such a file is opened again without asking the database.
//!
//! Another client's change of it is seen late, by as long as that at most; this client's own changes are seen at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shoal_format::{Attr, Ino};

use crate::inode::Inode;

/// Files opened lately.
pub(crate) struct OpenCache {
    /// How long an attribute is trusted; zero turns it off.
    ttl: Duration,
    /// Most files; at the bound those that are out of date are dropped, or else all.
    files_max: usize,
    files: Mutex<HashMap<Ino, Kept>>,
}

struct Kept {
    attr: Attr,
    /// Keeps the chunk maps beyond the last handle.
    inode: Arc<Inode>,
    looked_at: Instant,
}

impl OpenCache {
    pub(crate) fn new(ttl: Duration, files_max: usize) -> OpenCache {
        OpenCache { ttl, files_max, files: Mutex::default() }
    }

    /// The file `ino` if its attribute may be trusted at `now`.
    pub(crate) fn get(&self, ino: Ino, now: Instant) -> Option<(Attr, Arc<Inode>)> {
        if self.ttl.is_zero() {
            return None;
        }
        let files = self.files.lock();
        let kept = files.get(&ino).filter(|kept| self.is_fresh(kept, now))?;
        Some((kept.attr.clone(), Arc::clone(&kept.inode)))
    }

    /// The file of `inode` was opened and looked like `attr`, asked for at `asked_at` by the clock and at stamp `stamp` of changes by
    /// this process.
    pub(crate) fn keep(&self, inode: &Arc<Inode>, attr: &Attr, stamp: u64, asked_at: Instant) {
        if self.ttl.is_zero() {
            return;
        }
        let mut files = self.files.lock();
        // A change after this look finds it here and drops it.
        if !inode.refresh(attr, stamp) {
            files.remove(&inode.ino);
            return;
        }
        if files.len() >= self.files_max {
            files.retain(|_, kept| self.is_fresh(kept, asked_at));
            if files.len() >= self.files_max {
                files.clear();
            }
        }
        files.insert(inode.ino, Kept { attr: attr.clone(), inode: Arc::clone(inode), looked_at: asked_at });
    }

    /// Takes in a later look at a file that is kept.
    pub(crate) fn refresh(&self, ino: Ino, attr: &Attr, stamp: u64, asked_at: Instant) {
        if self.ttl.is_zero() {
            return;
        }
        let inode = self.files.lock().get(&ino).map(|kept| Arc::clone(&kept.inode));
        if let Some(inode) = inode {
            self.keep(&inode, attr, stamp, asked_at);
        }
    }

    /// This process changed file `ino`.
    pub(crate) fn forget(&self, ino: Ino) {
        self.files.lock().remove(&ino);
    }

    /// This process changed files nobody named.
    pub(crate) fn forget_all(&self) {
        self.files.lock().clear();
    }

    fn is_fresh(&self, kept: &Kept, now: Instant) -> bool {
        now.saturating_duration_since(kept.looked_at) < self.ttl
    }
}

#[cfg(test)]
mod tests {
    use shoal_format::{FileType, Time};
    use shoal_runtime::clock;

    use super::*;

    fn attr(length: u64) -> Attr {
        let time = Time { secs: length as i64, nanos: 0 };
        Attr { length, ..Attr::new(FileType::Regular, 0o644, Ino::ROOT, time) }
    }

    fn inode(number: u64) -> Arc<Inode> {
        Arc::new(Inode::new(Ino(number), &attr(1), 4096))
    }

    #[test]
    fn a_look_is_trusted_for_its_time_and_not_beyond_a_change() {
        let (cache, start) = (OpenCache::new(Duration::from_secs(10), 100), clock::now());
        let file = inode(5);
        cache.keep(&file, &attr(1), 0, start);
        let length = |seconds| cache.get(Ino(5), start + Duration::from_secs(seconds)).map(|(attr, _)| attr.length);
        assert_eq!((length(0), length(9), length(10)), (Some(1), Some(1), None));
        cache.refresh(Ino(5), &attr(2), 0, start + Duration::from_secs(5));
        assert_eq!((length(14), length(15)), (Some(2), None));
        cache.refresh(Ino(6), &attr(2), 0, start);
        assert!(cache.get(Ino(6), start).is_none(), "only what was opened is kept");

        file.changed_here(None, &attr(3), None, 7);
        cache.keep(&file, &attr(2), 6, start);
        assert_eq!(length(0), None, "what was asked for before a change is older than it");
        cache.keep(&file, &attr(3), 7, start);
        assert_eq!(length(0), Some(3));
        cache.forget(Ino(5));
        assert_eq!(length(0), None);
    }

    #[test]
    fn it_never_holds_more_than_its_bound_and_nothing_when_off() {
        let (cache, start) = (OpenCache::new(Duration::from_secs(10), 4), clock::now());
        for number in 1..=20 {
            cache.keep(&inode(number), &attr(1), 0, start + Duration::from_secs(number));
            assert!(cache.files.lock().len() <= 4);
            assert!(cache.get(Ino(number), start + Duration::from_secs(number)).is_some());
        }
        let off = OpenCache::new(Duration::ZERO, 4);
        off.keep(&inode(1), &attr(1), 0, start);
        assert!(off.files.lock().is_empty() && off.get(Ino(1), start).is_none());
    }
}
