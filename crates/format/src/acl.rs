//! POSIX ACL rules: shared records that attributes point at by id.

use crate::error::FormatError;
use crate::record::Reader;

/// A permission that is not set.
const UNSET: u16 = 0xFFFF;

/// Bytes of one named entry.
const ENTRY_BYTES: usize = 6;

/// Permission of one named user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AclEntry {
    /// User or group id.
    pub id: u32,
    /// Permission bits, `rwx` = 7.
    pub perm: u16,
}

/// A rule: what owner, group, others and named users and groups may do. `None` is an entry the rule does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclRule {
    /// The file's owner.
    pub owner: Option<u16>,
    /// The file's group.
    pub group: Option<u16>,
    /// Upper bound for group and named entries.
    pub mask: Option<u16>,
    /// Everyone else.
    pub other: Option<u16>,
    /// Named users.
    pub named_users: Vec<AclEntry>,
    /// Named groups.
    pub named_groups: Vec<AclEntry>,
}

impl AclRule {
    /// The record Redis and KV engines store.
    pub fn encode(&self) -> Vec<u8> {
        let entries = self.named_users.len() + self.named_groups.len();
        let mut out = Vec::with_capacity(16 + entries * ENTRY_BYTES);
        for perm in [self.owner, self.group, self.mask, self.other] {
            out.extend_from_slice(&perm.unwrap_or(UNSET).to_be_bytes());
        }
        for named in [&self.named_users, &self.named_groups] {
            out.extend_from_slice(&(named.len() as u32).to_be_bytes());
            out.extend_from_slice(&AclEntry::encode_list(named));
        }
        out
    }

    /// Reads a record. Errors: `Corrupt` if its length does not fit its counts.
    pub fn decode(bytes: &[u8]) -> Result<AclRule, FormatError> {
        let mut reader = Reader::new(bytes);
        match AclRule::read(&mut reader) {
            Some(rule) if reader.left() == 0 => Ok(rule),
            _ => Err(FormatError::Record { record: "ACL", len: bytes.len(), reason: "counts do not fit its length" }),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<AclRule> {
        Some(AclRule {
            owner: perm(reader.u16()?),
            group: perm(reader.u16()?),
            mask: perm(reader.u16()?),
            other: perm(reader.u16()?),
            named_users: read_entries(reader)?,
            named_groups: read_entries(reader)?,
        })
    }

    /// True if the mode bits say all of it; such a rule is never stored.
    pub fn is_minimal(&self) -> bool {
        self.named_users.is_empty() && self.named_groups.is_empty() && self.mask.is_none()
    }

    /// The value of `system.posix_acl_access` or `system.posix_acl_default` that Linux shows for this rule (version 2).
    pub fn to_xattr(&self) -> Vec<u8> {
        // linux/posix_acl_xattr.h: little-endian header 2, then {tag u16, perm u16, id u32} in tag order.
        const NO_ID: u32 = u32::MAX;
        let mut out = 2u32.to_le_bytes().to_vec();
        let mut entry = |tag: u16, perm: Option<u16>, id: u32| {
            if let Some(perm) = perm {
                out.extend_from_slice(&tag.to_le_bytes());
                out.extend_from_slice(&perm.to_le_bytes());
                out.extend_from_slice(&id.to_le_bytes());
            }
        };
        entry(0x01, self.owner, NO_ID);
        self.named_users.iter().for_each(|user| entry(0x02, Some(user.perm), user.id));
        entry(0x04, self.group, NO_ID);
        self.named_groups.iter().for_each(|group| entry(0x08, Some(group.perm), group.id));
        entry(0x10, self.mask, NO_ID);
        entry(0x20, self.other, NO_ID);
        out
    }
}

impl AclEntry {
    /// Named entries without a count, as SQL engines hold them in one column.
    pub fn encode_list(entries: &[AclEntry]) -> Vec<u8> {
        let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        for entry in entries {
            out.extend_from_slice(&entry.id.to_be_bytes());
            out.extend_from_slice(&entry.perm.to_be_bytes());
        }
        out
    }

    /// Reads a column of named entries. Errors: `Corrupt` for a length that is no multiple of 6.
    pub fn decode_list(bytes: &[u8]) -> Result<Vec<AclEntry>, FormatError> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return Err(FormatError::Record { record: "ACL entries", len: bytes.len(), reason: "not whole entries" });
        }
        Ok(bytes.chunks_exact(ENTRY_BYTES).filter_map(|raw| read_entry(&mut Reader::new(raw))).collect())
    }
}

fn perm(raw: u16) -> Option<u16> {
    (raw != UNSET).then_some(raw)
}

fn read_entry(reader: &mut Reader<'_>) -> Option<AclEntry> {
    Some(AclEntry { id: reader.u32()?, perm: reader.u16()? })
}

fn read_entries(reader: &mut Reader<'_>) -> Option<Vec<AclEntry>> {
    let count = reader.u32()? as usize;
    // The count is bounded by the bytes there are before anything is allocated for it.
    if count > reader.left() / ENTRY_BYTES {
        return None;
    }
    (0..count).map(|_| read_entry(reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; 22] = [0, 6, 0, 4, 0, 7, 0, 4, 0, 0, 0, 1, 0, 0, 3, 0xE8, 0, 7, 0, 0, 0, 0];

    fn golden() -> AclRule {
        AclRule {
            owner: Some(6),
            group: Some(4),
            mask: Some(7),
            other: Some(4),
            named_users: vec![AclEntry { id: 1000, perm: 7 }],
            named_groups: vec![],
        }
    }

    #[test]
    fn golden_rule() {
        assert_eq!(golden().encode(), GOLDEN);
        assert_eq!(AclRule::decode(&GOLDEN).unwrap(), golden());
        assert_eq!(AclEntry::decode_list(&GOLDEN[12..18]).unwrap(), golden().named_users);
        assert!(!golden().is_minimal());
    }

    #[test]
    fn unset_entries_survive() {
        let rule = AclRule { owner: Some(7), ..AclRule::default() };
        assert_eq!(AclRule::decode(&rule.encode()).unwrap(), rule);
        assert!(rule.is_minimal());
    }

    #[test]
    fn counts_beyond_the_record_are_corrupt() {
        let mut bytes = GOLDEN;
        bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(AclRule::decode(&bytes).is_err());
        assert!(AclRule::decode(&GOLDEN[..21]).is_err());
        assert!(AclRule::decode(&[&GOLDEN[..], &[0]].concat()).is_err());
        assert!(AclEntry::decode_list(&[0; 7]).is_err());
    }

    #[test]
    fn xattr_is_what_getfacl_reads() {
        let entry = |tag: u8, perm: u8, id: u32| [&[tag, 0, perm, 0][..], &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let expected = [
            vec![2, 0, 0, 0],
            entry(1, 6, none),
            entry(2, 7, 1000),
            entry(4, 4, none),
            entry(16, 7, none),
            entry(32, 4, none),
        ];
        assert_eq!(golden().to_xattr(), expected.concat());
    }
}
