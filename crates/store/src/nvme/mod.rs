//! The NVMe tier: a log of blocks in one preallocated slab file for each cache directory.
//!
//! ```text
//! shoal-cache.json   format version, id of the directory, sizes of segment and page
//! shoal-cache.lock   flock: one process at a time
//! shoal-rules.json   which groups of blocks are pinned or expire
//! shoal-cache.slab   | segment | segment | ... | sector for probes |; fallocated, segment by segment
//! segment            | head page | record | record | ...        | footer |
//! record             | head: id, key, lengths, CRC of each page | data   |
//! ```
//!
//! A writer thread for each directory appends records to the open segment, many small ones in one write. A full segment gets a
//! footer that lists its records, so that a restart reads two pages of each segment. One
//! segment stays spare: when the last free one is taken, the oldest is forgotten, after its blocks in use were copied forward (`evict`): no
//! fragmentation, sequential writes only, which is what flash wants.
//!
//! Every transfer goes through `watch`, which keeps writes in order and takes a device that errs or hangs out of service; `keeper` brings it
//! back and looks after the directory's share of its file system (`space`); `scrub` looks for damage. `ghost` and `rules` say what is let in and
//! what stays.
//!
//! Nothing is synced: this is a cache, and whatever a crash tears fails its CRC and is a miss. `layout` says why stale bytes cannot
//! come back.

mod ages;
mod bell;
mod contents;
mod descriptor;
mod dir;
pub(crate) mod evict;
#[cfg(feature = "testing")]
pub(crate) mod fake;
mod geometry;
pub(crate) mod ghost;
pub(crate) mod index;
mod keeper;
mod key;
mod landing;
mod layout;
mod read;
mod recover;
pub(crate) mod rules;
pub(crate) mod scan;
mod scrub;
mod segment;
mod slab;
mod space;
mod table;
pub(crate) mod tier;
mod watch;
mod write;

#[cfg(feature = "testing")]
pub(crate) use slab::SLAB_FILE;
