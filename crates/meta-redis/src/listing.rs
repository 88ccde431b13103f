//! Listings that go on: a hash has no order, so a directory is read and sorted once for all of its pages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_format::{Dentry, Ino};
use shoal_runtime::clock;

/// Listings kept at once.
const LISTINGS_MAX: usize = 32;
/// Names kept in all of them: some hundred MiB. A directory of more is read again for each page.
const NAMES_MAX: usize = 4_000_000;
/// How long the next page is waited for.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A name and what it stood for when it was read.
pub(crate) type Name = (Bytes, Dentry);

/// What is left of listings whose first pages were read.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    kept: Mutex<VecDeque<Listing>>,
}

#[derive(Debug)]
struct Listing {
    dir: Ino,
    /// The last name given out.
    after: Bytes,
    rest: VecDeque<Name>,
    used: Instant,
}

impl Listings {
    /// The names of `dir` greater than `after`, if a listing stopped there a moment ago.
    pub(crate) fn resume(&self, dir: Ino, after: &[u8]) -> Option<VecDeque<Name>> {
        let (mut kept, now) = (self.kept.lock(), clock::now());
        kept.retain(|listing| now.saturating_duration_since(listing.used) < IDLE_MAX);
        let at = kept.iter().position(|listing| listing.dir == dir && listing.after == after)?;
        kept.remove(at).map(|listing| listing.rest)
    }

    /// Keeps what is left behind `after`; nothing if the listing has ended.
    pub(crate) fn keep(&self, dir: Ino, after: Bytes, rest: VecDeque<Name>) {
        if rest.is_empty() {
            return;
        }
        let mut kept = self.kept.lock();
        kept.push_back(Listing { dir, after, rest, used: clock::now() });
        let names = |kept: &VecDeque<Listing>| kept.iter().map(|listing| listing.rest.len()).sum::<usize>();
        while kept.len() > LISTINGS_MAX || names(&kept) > NAMES_MAX {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_format::FileType;

    use super::*;

    fn names(from: u64, to: u64) -> VecDeque<Name> {
        let dentry = |ino| Dentry { kind: FileType::Regular, ino: Ino(ino) };
        (from..to).map(|n| (Bytes::from(format!("{n:04}")), dentry(n))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_goes_on_where_it_stopped_and_is_forgotten() {
        let listings = Listings::default();
        listings.keep(Ino(5), "0002".into(), names(3, 9));
        listings.keep(Ino(6), "0002".into(), names(3, 4));
        listings.keep(Ino(7), "0002".into(), names(3, 3));
        assert!(listings.resume(Ino(5), b"0001").is_none());
        assert_eq!(listings.resume(Ino(5), b"0002").unwrap().len(), 6);
        assert!(listings.resume(Ino(5), b"0002").is_none(), "given out once");
        assert!(listings.resume(Ino(7), b"0002").is_none(), "it had ended");
        clock::sleep(IDLE_MAX).await;
        assert!(listings.resume(Ino(6), b"0002").is_none(), "nobody came back");
        for n in 0..2 * LISTINGS_MAX as u64 {
            listings.keep(Ino(n), "0".into(), names(1, 3));
        }
        assert_eq!(listings.kept.lock().len(), LISTINGS_MAX);
        assert!(listings.resume(Ino(0), b"0").is_none());
    }
}
