//! What keeps a volume whole: checks of metadata and objects together, and the removal of what nothing needs.

mod blocks;
mod compact;
mod fsck;
mod gc;
mod slice_map;

pub use compact::{CompactReport, compact_file, compact_volume};
pub use fsck::{DamagedBlock, FsckOptions, FsckReport, ObjectState, fsck};
pub use gc::{Amount, GcOptions, GcReport, gc};
