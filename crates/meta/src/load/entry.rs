//! What a dump says of one inode.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use shoal_format::{AclEntry, AclRule, Attr, FileType, Ino, SliceRecord, Time};

use crate::record::ChunkSlices;

#[derive(Debug, Deserialize)]
pub(super) struct DumpedAttr {
    pub(super) inode: u64,
    #[serde(default)]
    flags: u8,
    #[serde(rename = "type")]
    kind: String,
    mode: u16,
    uid: u32,
    gid: u32,
    atime: i64,
    mtime: i64,
    ctime: i64,
    #[serde(default)]
    atimensec: u32,
    #[serde(default)]
    mtimensec: u32,
    #[serde(default)]
    ctimensec: u32,
    #[serde(default)]
    length: u64,
    #[serde(default)]
    rdev: u32,
    #[serde(default)]
    tier: u8,
}

impl DumpedAttr {
    /// The attribute, with one name in `parent`; `None` for a type that does not exist.
    pub(super) fn attr(&self, parent: Ino) -> Option<Attr> {
        let kind = kind(&self.kind)?;
        Some(Attr {
            flags: self.flags,
            uid: self.uid,
            gid: self.gid,
            atime: time(self.atime, self.atimensec),
            mtime: time(self.mtime, self.mtimensec),
            ctime: time(self.ctime, self.ctimensec),
            length: match kind {
                FileType::Directory => 4096,
                FileType::Regular => self.length,
                _ => 0,
            },
            rdev: self.rdev,
            tier: self.tier,
            ..Attr::new(kind, self.mode & 0xFFF, parent, Time::default())
        })
    }
}

fn kind(name: &str) -> Option<FileType> {
    Some(match name {
        "regular" => FileType::Regular,
        "directory" => FileType::Directory,
        "symlink" => FileType::Symlink,
        "fifo" => FileType::Fifo,
        "blockdev" => FileType::BlockDevice,
        "chardev" => FileType::CharDevice,
        "socket" => FileType::Socket,
        _ => return None,
    })
}

/// Real clients write a time before 1970 on a SQL database with nanoseconds below zero, as if they were not.
fn time(secs: i64, nanos: u32) -> Time {
    const SECOND: u32 = 1_000_000_000;
    match nanos {
        0..SECOND => Time { secs, nanos },
        wrapped => Time { secs: secs - 1, nanos: SECOND.saturating_sub(wrapped.wrapping_neg()) },
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct DumpedXattr {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct DumpedAcl {
    owner: u16,
    group: u16,
    other: u16,
    mask: u16,
    #[serde(default, deserialize_with = "or_none")]
    users: Vec<DumpedAclEntry>,
    #[serde(default, deserialize_with = "or_none")]
    groups: Vec<DumpedAclEntry>,
}

#[derive(Debug, Deserialize)]
struct DumpedAclEntry {
    id: u32,
    perm: u16,
}

impl DumpedAcl {
    pub(super) fn rule(&self) -> AclRule {
        let perm = |raw: u16| (raw != 0xFFFF).then_some(raw);
        let named = |entries: &[DumpedAclEntry]| {
            entries.iter().map(|entry| AclEntry { id: entry.id, perm: entry.perm }).collect()
        };
        AclRule {
            owner: perm(self.owner),
            group: perm(self.group),
            mask: perm(self.mask),
            other: perm(self.other),
            named_users: named(&self.users),
            named_groups: named(&self.groups),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct DumpedChunk {
    index: u32,
    #[serde(default, deserialize_with = "or_none")]
    slices: Vec<DumpedSlice>,
}

#[derive(Debug, Deserialize)]
struct DumpedSlice {
    /// Clients before 1.0 call it so.
    #[serde(default, alias = "chunkid")]
    id: u64,
    #[serde(default)]
    pos: u32,
    #[serde(default)]
    size: u32,
    #[serde(default)]
    off: u32,
    #[serde(default)]
    len: u32,
}

impl DumpedChunk {
    pub(super) fn slices(&self, ino: Ino) -> ChunkSlices {
        let record = |slice: &DumpedSlice| SliceRecord {
            pos: slice.pos,
            id: slice.id,
            size: slice.size,
            off: slice.off,
            len: slice.len,
        };
        ChunkSlices { ino, index: self.index, slices: self.slices.iter().map(record).collect() }
    }
}

/// Of a list of deleted files.
#[derive(Debug, Deserialize)]
pub(super) struct DumpedDeletedFile {
    pub(super) inode: u64,
    pub(super) length: u64,
    pub(super) expire: i64,
}

/// Limits of a directory, user or group.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DumpedLimits {
    pub(super) max_space: i64,
    pub(super) max_inodes: i64,
}

/// Counters of the dumped volume, as far as they matter to another one.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DumpedCounters {
    pub(super) next_inodes: u64,
    pub(super) next_chunk: u64,
    pub(super) next_trash: u64,
}

/// Go writes `null` for a list that holds nothing.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The bytes that [`escape`](crate::dump) wrote: `%XX` is a byte.
pub(super) fn unescape(text: &str) -> Bytes {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_the_bytes_they_were() {
        assert_eq!(unescape("%FF%25%22%5C%01%20<>&你"), &b"\xff%\"\\\x01 <>&\xe4\xbd\xa0"[..]);
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%4"), "%zz%4");
    }

    #[test]
    fn times_before_1970_are_read_as_real_clients_write_them() {
        assert_eq!(time(-1, 3_794_967_296), Time { secs: -2, nanos: 500_000_000 });
        assert_eq!(time(0, 4_294_966_296), Time { secs: -1, nanos: 999_999_000 });
        assert_eq!(time(5, 999_999_999), Time { secs: 5, nanos: 999_999_999 });
    }
}
