//! Rows to records and back. Every number is checked: a column may hold anything.

use bytes::Bytes;
use shoal_format::{AclEntry, AclRule, Attr, Dentry, FileType, Ino, SliceRecord, Time};
use shoal_meta::{DirEntry, MetaError};

use crate::args::Args;
use crate::driver::Driver;
use crate::failure::damaged;

const NANOS_PER_SEC: i128 = 1_000_000_000;
/// A permission that an ACL rule does not have.
const ACL_UNSET: i64 = 0xFFFF;

/// Reads the columns of one row.
pub(crate) struct Columns<'r, D: Driver> {
    pub(crate) row: &'r D::Row,
    /// The database, as messages name it.
    pub(crate) at: &'r str,
}

impl<D: Driver> Columns<'_, D> {
    /// A signed number, `None` for NULL.
    pub(crate) fn nullable(&self, index: usize) -> Result<Option<i64>, MetaError> {
        D::int(self.row, index).map_err(|error| D::failed(self.at, error))
    }

    /// A signed number.
    pub(crate) fn int(&self, index: usize) -> Result<i64, MetaError> {
        self.nullable(index)?.ok_or_else(|| damaged(self.at, &format!("result column {index} is NULL")))
    }

    /// A number that fits `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&self, index: usize, column: &str) -> Result<T, MetaError> {
        let value = self.int(index)?;
        T::try_from(value).map_err(|_| damaged(self.at, &format!("column {column} holds {value}")))
    }

    /// Bytes; empty for NULL.
    pub(crate) fn bytes(&self, index: usize) -> Result<Bytes, MetaError> {
        let bytes = D::bytes(self.row, index).map_err(|error| D::failed(self.at, error))?;
        Ok(Bytes::from(bytes.unwrap_or_default()))
    }

    /// Text.
    pub(crate) fn text(&self, index: usize) -> Result<String, MetaError> {
        D::text(self.row, index).map_err(|error| D::failed(self.at, error))
    }

    fn kind(&self, index: usize) -> Result<FileType, MetaError> {
        let value = self.int(index)?;
        let kind = u8::try_from(value).ok().and_then(FileType::from_u8);
        kind.ok_or_else(|| damaged(self.at, &format!("column type holds {value}")))
    }

    pub(crate) fn ino(&self, index: usize) -> Result<Ino, MetaError> {
        self.number(index, "inode").map(Ino)
    }

    fn time(&self, index: usize) -> Result<Time, MetaError> {
        // Before 1970 the real client's division leaves a negative rest: only the sum of both columns is the time.
        let nanos = i128::from(self.int(index)?) * 1000 + i128::from(self.int(index + 1)?);
        let secs = i64::try_from(nanos.div_euclid(NANOS_PER_SEC));
        let secs = secs.map_err(|_| damaged(self.at, &format!("a time is {nanos} ns")))?;
        Ok(Time { secs, nanos: nanos.rem_euclid(NANOS_PER_SEC) as u32 })
    }

    /// Attributes in the columns from `first`, in the order of `schema::NODE_COLUMNS`; `None` where a join found no row.
    pub(crate) fn attr(&self, first: usize) -> Result<Option<(Ino, Attr)>, MetaError> {
        if self.nullable(first)?.is_none() {
            return Ok(None);
        }
        let attr = Attr {
            kind: self.kind(first + 1)?,
            flags: self.number(first + 2, "flags")?,
            mode: self.number::<u16>(first + 3, "mode")? & 0xFFF,
            uid: self.number(first + 4, "uid")?,
            gid: self.number(first + 5, "gid")?,
            atime: self.time(first + 6)?,
            mtime: self.time(first + 8)?,
            ctime: self.time(first + 10)?,
            nlink: self.number(first + 12, "nlink")?,
            length: self.number(first + 13, "length")?,
            rdev: self.number(first + 14, "rdev")?,
            parent: Ino(self.number(first + 15, "parent")?),
            access_acl: self.number(first + 16, "access_acl_id")?,
            default_acl: self.number(first + 17, "default_acl_id")?,
            tier: self.number(first + 18, "tier_id")?,
        };
        Ok(Some((self.ino(first)?, attr)))
    }

    /// A dentry in columns 1 and 2.
    pub(crate) fn dentry(&self) -> Result<Dentry, MetaError> {
        Ok(Dentry { ino: self.ino(1)?, kind: self.kind(2)? })
    }

    /// A row of the listing: name, dentry, attributes.
    pub(crate) fn listed(&self) -> Result<DirEntry, MetaError> {
        let dentry = self.dentry()?;
        let attr = self.attr(3)?.map(|(_, attr)| attr);
        Ok(DirEntry { name: self.bytes(0)?, ino: dentry.ino, kind: dentry.kind, attr })
    }

    /// A chunk's list.
    pub(crate) fn slices(&self, index: usize) -> Result<Vec<SliceRecord>, MetaError> {
        let list = SliceRecord::decode_list(&self.bytes(index)?);
        list.map_err(|error| damaged(self.at, &error.to_string()))
    }

    /// An ACL rule.
    pub(crate) fn acl(&self) -> Result<AclRule, MetaError> {
        let perm = |index: usize| -> Result<Option<u16>, MetaError> {
            let value = self.nullable(index)?;
            let bad = |value| damaged(self.at, &format!("an ACL permission is {value}"));
            let set = value.filter(|value| *value != ACL_UNSET);
            set.map(|value| u16::try_from(value).map_err(|_| bad(value))).transpose()
        };
        let named = |index: usize| {
            let list = AclEntry::decode_list(&self.bytes(index)?);
            list.map_err(|error| damaged(self.at, &error.to_string()))
        };
        Ok(AclRule {
            owner: perm(0)?,
            group: perm(1)?,
            mask: perm(2)?,
            other: perm(3)?,
            named_users: named(4)?,
            named_groups: named(5)?,
        })
    }
}

/// Binds an ACL rule, without its id.
pub(crate) fn bind_acl(args: &mut Args<'_>, rule: &AclRule) {
    for perm in [rule.owner, rule.group, rule.mask, rule.other] {
        args.put(perm.map_or(ACL_UNSET, i64::from));
    }
    for named in [&rule.named_users, &rule.named_groups] {
        args.put(AclEntry::encode_list(named));
    }
}

/// Binds attributes in the order of `schema::NODE_COLUMNS`.
pub(crate) fn bind_attr(args: &mut Args<'_>, ino: Ino, attr: &Attr) {
    args.put_u64(ino.0);
    args.put(i64::from(attr.kind as u8));
    args.put(i64::from(attr.flags));
    args.put(i64::from(attr.mode));
    args.put(i64::from(attr.uid));
    args.put(i64::from(attr.gid));
    for time in [attr.atime, attr.mtime, attr.ctime] {
        let (micros, rest) = time.to_micros();
        args.put(micros);
        args.put(i64::from(rest));
    }
    args.put(i64::from(attr.nlink));
    args.put_u64(attr.length);
    args.put(i64::from(attr.rdev));
    args.put_u64(attr.parent.0);
    args.put(i64::from(attr.access_acl));
    args.put(i64::from(attr.default_acl));
    args.put(i64::from(attr.tier));
}
