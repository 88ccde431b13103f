//! The NVMe tier: a log of blocks in one preallocated slab file for each cache directory.
//!
//! ```text
//! shoal-cache.json   format version, id of the directory, sizes of segment and page
//! shoal-cache.lock   flock: one process at a time
//! shoal-cache.slab   | segment | segment | ... ; fallocated, so the size on disk never changes
//! segment            | head page | record | record | ...        | footer |
//! record             | head: id, key, lengths, CRC of each page | data   |
//! ```
//!
//! A writer thread for each directory appends records to the open segment, many small ones in one write. A full segment gets a
//! footer that lists its records, so that a restart reads two pages of each segment. When no segment is free the oldest is
//! forgotten whole and written anew: no fragmentation, no compaction, sequential writes only, which is what flash wants.
//!
//! Nothing is synced: this is a cache, and whatever a crash tears fails its CRC and is a miss. `layout` says why stale bytes cannot
//! come back.

mod descriptor;
mod dir;
mod evict;
mod flights;
mod geometry;
pub(crate) mod index;
mod key;
mod layout;
mod read;
mod recover;
mod segment;
mod slab;
mod table;
pub(crate) mod tier;
mod write;
