//! Files that exist in the mount's root but not in the volume: `.config` (how this mount was made), `.stats` (its metrics) and
//! `.accesslog` (what it is asked).
//!
//! Hidden from listings, readable by the mounting user only: the metadata address may hold a password. Names and inode numbers
//! are those of JuiceFS (volume format, sections 6.1 and 29); our own tools find a mount's ring through `.config`.

use std::time::UNIX_EPOCH;

use fuser::{FileAttr, INodeNo};

/// Name of the file that holds the mount's configuration as JSON.
pub const CONFIG_NAME: &str = ".config";
/// Name of the file that holds the mount's metrics in Prometheus' text format.
pub const STATS_NAME: &str = ".stats";

/// What the names begin with where they are asked to be told apart from those of programs.
pub const INTERNAL_PREFIX: &str = ".jfs";

/// Name of the file that gives a line for each request, for as long as it is read.
pub const ACCESS_LOG_NAME: &str = ".accesslog";

const ACCESS_LOG_INO: u64 = 0x7FFF_FFFF_0000_0001;
const STATS_INO: u64 = 0x7FFF_FFFF_0000_0003;
const CONFIG_INO: u64 = 0x7FFF_FFFF_0000_0004;

/// One of the virtual files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VirtualFile {
    AccessLog,
    Config,
    Stats,
}

impl VirtualFile {
    /// The file of this name, where names begin with `prefix`.
    pub(crate) fn named(name: &[u8], prefix: &str) -> Option<VirtualFile> {
        match name.strip_prefix(prefix.as_bytes())? {
            name if name == ACCESS_LOG_NAME.as_bytes() => Some(VirtualFile::AccessLog),
            name if name == CONFIG_NAME.as_bytes() => Some(VirtualFile::Config),
            name if name == STATS_NAME.as_bytes() => Some(VirtualFile::Stats),
            _ => None,
        }
    }

    pub(crate) fn numbered(ino: INodeNo) -> Option<VirtualFile> {
        match ino.0 {
            ACCESS_LOG_INO => Some(VirtualFile::AccessLog),
            CONFIG_INO => Some(VirtualFile::Config),
            STATS_INO => Some(VirtualFile::Stats),
            _ => None,
        }
    }

    /// Its attribute. The length is 0 although the file is not empty: it is read with direct I/O to its end.
    pub(crate) fn attr(self, uid: u32, gid: u32) -> FileAttr {
        let ino = match self {
            VirtualFile::AccessLog => ACCESS_LOG_INO,
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
