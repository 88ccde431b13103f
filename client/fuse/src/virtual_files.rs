//! Files that exist in the mount's root but not in the volume: `.config` (how this mount was made) and `.stats` (its metrics).
//!
//! Hidden from listings, readable by the mounting user only: the metadata address may hold a password. Names and inode numbers
//! are those of JuiceFS (volume format, sections 6.1 and 29); our own tools find a mount's ring through `.config`.

use std::time::UNIX_EPOCH;

use fuser::{FileAttr, INodeNo};

/// Name of the file that holds the mount's configuration as JSON.
pub const CONFIG_NAME: &str = ".config";
/// Name of the file that holds the mount's metrics in Prometheus' text format.
pub const STATS_NAME: &str = ".stats";

const STATS_INO: u64 = 0x7FFF_FFFF_0000_0003;
const CONFIG_INO: u64 = 0x7FFF_FFFF_0000_0004;

/// One of the virtual files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VirtualFile {
    Config,
    Stats,
}

impl VirtualFile {
    pub(crate) fn named(name: &[u8]) -> Option<VirtualFile> {
        match name {
            name if name == CONFIG_NAME.as_bytes() => Some(VirtualFile::Config),
            name if name == STATS_NAME.as_bytes() => Some(VirtualFile::Stats),
            _ => None,
        }
    }

    pub(crate) fn numbered(ino: INodeNo) -> Option<VirtualFile> {
        match ino.0 {
            CONFIG_INO => Some(VirtualFile::Config),
            STATS_INO => Some(VirtualFile::Stats),
            _ => None,
        }
    }

    /// Its attribute. The length is 0 although the file is not empty: it is read with direct I/O to its end.
    pub(crate) fn attr(self, uid: u32, gid: u32) -> FileAttr {
        let ino = match self {
            VirtualFile::Config => CONFIG_INO,
            VirtualFile::Stats => STATS_INO,
        };
        FileAttr {
            ino: INodeNo(ino),
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: fuser::FileType::RegularFile,
            perm: 0o400,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}
