//! Names of keys (spec section 21).

use shoal_format::Ino;
use shoal_meta::{Counter, IdKind, Job, Serial};

/// Hash: names of a directory's statistics, in the order of [`shoal_meta::DirUsage`]'s fields.
pub(crate) const DIR_USAGE: [&str; 3] = ["dirDataLength", "dirUsedSpace", "dirUsedInodes"];
/// Hashes of what quotas of directories count: space, inodes.
pub(crate) const DIR_QUOTA_USED: [&str; 2] = ["dirQuotaUsedSpace", "dirQuotaUsedInodes"];
/// Hash: limits of directories.
pub(crate) const DIR_QUOTA: &str = "dirQuota";
/// String: the setting.
pub(crate) const SETTING: &str = "setting";
/// Hash: reference counts of slices.
pub(crate) const SLICE_REFS: &str = "sliceRef";
/// Hash: slices whose references are dropped later.
pub(crate) const DELAYED: &str = "delSlices";
/// Sorted set: files whose data is to be deleted.
pub(crate) const DELETED_FILES: &str = "delfiles";
/// Sorted set: sessions by the time they expire.
pub(crate) const SESSIONS: &str = "allSessions";
/// Hash: what sessions say about themselves.
pub(crate) const SESSION_INFOS: &str = "sessionInfos";
/// String: the highest id of an ACL rule.
pub(crate) const ACL_IDS: &str = "aclMaxId";
/// Hash: ACL rules.
pub(crate) const ACLS: &str = "acl";
/// List: the change log.
pub(crate) const LOG: &str = "txnLog";
/// String: number of entries it ever had.
pub(crate) const LOG_LAST: &str = "txnLastLog";
/// Sorted set: trees without a name by the time they were begun.
pub(crate) const DETACHED: &str = "detachedNodes";

/// Every key that there is one of, those included that only real clients write.
const SINGLES: [&str; 37] = [
    SETTING,
    SLICE_REFS,
    DELAYED,
    DELETED_FILES,
    SESSIONS,
    SESSION_INFOS,
    ACLS,
    DETACHED,
    DIR_QUOTA,
    DIR_QUOTA_USED[0],
    DIR_QUOTA_USED[1],
    DIR_USAGE[0],
    DIR_USAGE[1],
    DIR_USAGE[2],
    "userQuota",
    "userQuotaUsedSpace",
    "userQuotaUsedInodes",
    "groupQuota",
    "groupQuotaUsedSpace",
    "groupQuotaUsedInodes",
    "sessions",
    "krbToken",
    "krbTokenMaxId",
    ACL_IDS,
    LOG,
    LOG_LAST,
    "usedSpace",
    "totalInodes",
    "nextinode",
    "nextchunk",
    "nextsession",
    "nextTrash",
    "lastCleanupSessions",
    "lastCleanupFiles",
    "lastCleanupTrash",
    "lastCleanupChangelog",
    "nextCleanupSlices",
];
/// What keys with a number behind it begin with.
const NUMBERED: [&str; 9] = ["i", "d", "p", "s", "x", "lockf", "lockp", "locked", "session"];

/// What every key of a volume begins with: nothing, or a cluster's hash tag.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: String) -> Keys {
        Keys { prefix }
    }

    /// A key that there is one of.
    pub(crate) fn single(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What keys of attributes begin with; the inode follows.
    pub(crate) fn attr_prefix(&self) -> String {
        self.single("i")
    }

    pub(crate) fn attr(&self, ino: Ino) -> String {
        format!("{}i{ino}", self.prefix)
    }

    pub(crate) fn dentries(&self, dir: Ino) -> String {
        format!("{}d{dir}", self.prefix)
    }

    pub(crate) fn parents(&self, ino: Ino) -> String {
        format!("{}p{ino}", self.prefix)
    }

    pub(crate) fn symlink(&self, ino: Ino) -> String {
        format!("{}s{ino}", self.prefix)
    }

    pub(crate) fn xattrs(&self, ino: Ino) -> String {
        format!("{}x{ino}", self.prefix)
    }

    pub(crate) fn chunk(&self, ino: Ino, index: u32) -> String {
        format!("{}c{ino}_{index}", self.prefix)
    }

    /// The pattern of a file's chunks, for SCAN.
    pub(crate) fn chunks_pattern(&self, ino: Ino) -> String {
        // A cluster's tag has no character that means something in a pattern but its digits and braces.
        format!("{}c{ino}_*", self.prefix)
    }

    /// Index of one of a file's chunks by its key.
    pub(crate) fn chunk_index(&self, ino: Ino, key: &[u8]) -> Option<u32> {
        let start = format!("{}c{ino}_", self.prefix);
        std::str::from_utf8(key.strip_prefix(start.as_bytes())?).ok()?.parse().ok()
    }

    /// Locks of a whole file.
    pub(crate) fn flocks(&self, ino: Ino) -> String {
        format!("{}lockf{ino}", self.prefix)
    }

    /// Locks of a file's ranges.
    pub(crate) fn plocks(&self, ino: Ino) -> String {
        format!("{}lockp{ino}", self.prefix)
    }

    /// The pattern of keys with a number behind `start`, and maybe of others, for SCAN.
    pub(crate) fn numbered_pattern(&self, start: &str) -> String {
        format!("{}{start}[0-9]*", self.prefix)
    }

    /// The number behind `start` in such a key; of a chunk's, its file's.
    pub(crate) fn number_behind(&self, start: &str, key: &[u8]) -> Option<u64> {
        let name = std::str::from_utf8(key.strip_prefix(self.prefix.as_bytes())?).ok()?;
        let number = name.strip_prefix(start)?;
        number.split_once('_').map_or(number, |(ino, _)| ino).parse().ok()
    }

    /// The pattern of every key of the volume, and maybe of others, for SCAN.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// True for a key of a volume.
    pub(crate) fn is_ours(&self, key: &[u8]) -> bool {
        let name = key.strip_prefix(self.prefix.as_bytes()).and_then(|name| std::str::from_utf8(name).ok());
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let of_chunk = |text: &str| text.split_once('_').is_some_and(|(ino, index)| is_number(ino) && is_number(index));
        name.is_some_and(|name| {
            SINGLES.contains(&name)
                || NUMBERED.iter().any(|start| name.strip_prefix(start).is_some_and(is_number))
                || name.strip_prefix('c').is_some_and(of_chunk)
        })
    }

    /// Removed files that a session holds.
    pub(crate) fn sustained(&self, sid: u64) -> String {
        format!("{}session{sid}", self.prefix)
    }

    /// Keys of locks that a session holds.
    pub(crate) fn locked(&self, sid: u64) -> String {
        format!("{}locked{sid}", self.prefix)
    }

    pub(crate) fn counter(&self, counter: Counter) -> String {
        self.single(match counter {
            Counter::UsedSpace => "usedSpace",
            Counter::TotalInodes => "totalInodes",
        })
    }

    /// The highest id that was handed out; real clients write these in lower case.
    pub(crate) fn last_id(&self, kind: IdKind) -> String {
        self.single(match kind {
            IdKind::Inode => "nextinode",
            IdKind::Slice => "nextchunk",
        })
    }

    pub(crate) fn serial(&self, serial: Serial) -> String {
        self.single(match serial {
            Serial::Session => "nextsession",
            Serial::TrashDir => "nextTrash",
        })
    }

    pub(crate) fn job(&self, job: Job) -> String {
        self.single(job.counter_name())
    }
}

/// Field of a slice's reference count.
pub(crate) fn slice_field(id: u64, size: u32) -> String {
    format!("k{id}_{size}")
}

/// Slice id and size of such a field.
pub(crate) fn parse_slice_field(field: &[u8]) -> Option<(u64, u32)> {
    let (id, size) = std::str::from_utf8(field).ok()?.strip_prefix('k')?.split_once('_')?;
    Some((id.parse().ok()?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_real_clients() {
        let (plain, cluster) = (Keys::new(String::new()), Keys::new("{3}".to_owned()));
        assert_eq!(plain.attr(Ino::TRASH), "i9223372032828243968");
        assert_eq!(cluster.chunk(Ino(5), 0), "{3}c5_0");
        assert_eq!(cluster.chunk_index(Ino(5), b"{3}c5_17"), Some(17));
        assert_eq!(plain.chunk_index(Ino(5), b"c51_7"), None);
        assert_eq!(cluster.last_id(IdKind::Slice), "{3}nextchunk");
        assert_eq!(slice_field(7, 100), "k7_100");
        for ours in ["{3}i1", "{3}c5_17", "{3}setting", "{3}lockf5", "{3}session7", "{3}sessionInfos"] {
            assert!(cluster.is_ours(ours.as_bytes()), "{ours}");
        }
        for other in ["i1", "{3}other", "{3}i", "{3}c5", "{3}i5x", "{33}i5"] {
            assert!(!cluster.is_ours(other.as_bytes()), "{other}");
        }
        assert_eq!(parse_slice_field(b"k7_100"), Some((7, 100)));
        assert_eq!(parse_slice_field(b"k7"), None);
    }
}
