//! POSIX ACL rules: shared records that attributes point at by id.

use crate::error::FormatError;
use crate::record::Reader;

/// A permission that is not set.
const UNSET: u16 = 0xFFFF;

/// Bytes of one named entry.
const ENTRY_BYTES: usize = 6;

/// Permission bits of one class.
const PERM_MAX: u16 = 7;

/// Tags of entries in extended attributes (linux/posix_acl.h), in the order they have there.
mod tag {
    pub(super) const OWNER: u16 = 0x01;
    pub(super) const USER: u16 = 0x02;
    pub(super) const GROUP_OWNER: u16 = 0x04;
    pub(super) const GROUP: u16 = 0x08;
    pub(super) const MASK: u16 = 0x10;
    pub(super) const OTHER: u16 = 0x20;
}

/// Version of the extended attributes' form.
const XATTR_VERSION: u32 = 2;

/// Permission of one named user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AclEntry {
    /// User or group id.
    pub id: u32,
    /// Permission bits, `rwx` = 7.
    pub perm: u16,
}

/// A rule: what owner, group, others and named users and groups may do. `None` is an entry the rule does not have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
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

    /// The permission bits of a mode that say the same to whoever knows no ACLs: the mask stands for the group.
    pub fn mode_bits(&self) -> u16 {
        let group = self.mask.or(self.group).unwrap_or(0);
        self.owner.unwrap_or(0) << 6 | group << 3 | self.other.unwrap_or(0)
    }

    /// The rule after a chmod(2): the bits of the group are the mask's where there is one.
    pub fn with_mode(mut self, mode: u16) -> AclRule {
        let group = if self.mask.is_some() { &mut self.mask } else { &mut self.group };
        *group = Some(mode >> 3 & PERM_MAX);
        self.owner = Some(mode >> 6 & PERM_MAX);
        self.other = Some(mode & PERM_MAX);
        self
    }

    /// The rule of a new inode with `mode` in a directory whose default rule this is: nobody gets more than both allow.
    pub fn for_child(mut self, mode: u16) -> AclRule {
        let group = if self.mask.is_some() { &mut self.mask } else { &mut self.group };
        for (perm, most) in [(group, mode >> 3), (&mut self.owner, mode >> 6), (&mut self.other, mode)] {
            *perm = Some(perm.unwrap_or(0) & most & PERM_MAX);
        }
        self
    }

    /// The value of `system.posix_acl_access` or `system.posix_acl_default` that Linux shows for this rule (version 2).
    pub fn to_xattr(&self) -> Vec<u8> {
        // linux/posix_acl_xattr.h: little-endian header 2, then {tag u16, perm u16, id u32} in tag order.
        const NO_ID: u32 = u32::MAX;
        let mut out = XATTR_VERSION.to_le_bytes().to_vec();
        let mut entry = |tag: u16, perm: Option<u16>, id: u32| {
            if let Some(perm) = perm {
                out.extend_from_slice(&tag.to_le_bytes());
                out.extend_from_slice(&perm.to_le_bytes());
                out.extend_from_slice(&id.to_le_bytes());
            }
        };
        entry(tag::OWNER, self.owner, NO_ID);
        self.named_users.iter().for_each(|user| entry(tag::USER, Some(user.perm), user.id));
        entry(tag::GROUP_OWNER, self.group, NO_ID);
        self.named_groups.iter().for_each(|group| entry(tag::GROUP, Some(group.perm), group.id));
        entry(tag::MASK, self.mask, NO_ID);
        entry(tag::OTHER, self.other, NO_ID);
        out
    }

    /// Reads [`AclRule::to_xattr`]; `None` for the value without entries, which stands for no rule.
    ///
    /// Errors: `Corrupt` for what is no valid ACL (acl(5)): entries in another order, twice or missing, no mask beside named ones.
    pub fn from_xattr(value: &[u8]) -> Result<Option<AclRule>, FormatError> {
        let wrong = |reason| FormatError::Record { record: "ACL attribute", len: value.len(), reason };
        let (version, entries) = value.split_first_chunk::<4>().ok_or_else(|| wrong("shorter than its header"))?;
        let entries = entries.chunks_exact(8);
        if u32::from_le_bytes(*version) != XATTR_VERSION || !entries.remainder().is_empty() {
            return Err(wrong("not version 2 with whole entries"));
        }
        if entries.len() == 0 {
            return Ok(None);
        }
        let mut rule = AclRule::default();
        let mut last = 0;
        for entry in entries {
            let field = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let (tag, perm, id) = (field(0), field(2), u32::from(field(4)) | u32::from(field(6)) << 16);
            let named = tag == tag::USER || tag == tag::GROUP;
            if perm > PERM_MAX || tag < last || (tag == last && !named) {
                return Err(wrong("entries out of order, twice, or with unknown permissions"));
            }
            match tag {
                tag::OWNER => rule.owner = Some(perm),
                tag::USER => rule.named_users.push(AclEntry { id, perm }),
                tag::GROUP_OWNER => rule.group = Some(perm),
                tag::GROUP => rule.named_groups.push(AclEntry { id, perm }),
                tag::MASK => rule.mask = Some(perm),
                tag::OTHER => rule.other = Some(perm),
                _ => return Err(wrong("an unknown kind of entry")),
            }
            last = tag;
        }
        for named in [&mut rule.named_users, &mut rule.named_groups] {
            named.sort_unstable_by_key(|entry| entry.id);
            if named.windows(2).any(|pair| pair[0].id == pair[1].id) {
                return Err(wrong("a user or group is named twice"));
            }
        }
        let whole = rule.owner.is_some() && rule.group.is_some() && rule.other.is_some();
        if !whole || (rule.mask.is_none() && !rule.is_minimal()) {
            return Err(wrong("the owner, the group, others or the mask is missing"));
        }
        Ok(Some(rule))
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
    fn the_mask_is_the_groups_part_of_the_mode() {
        assert_eq!(golden().mode_bits(), 0o674);
        assert_eq!(AclRule { owner: Some(6), group: Some(4), other: Some(0), ..AclRule::default() }.mode_bits(), 0o640);
        let after = golden().with_mode(0o2751);
        assert_eq!((after.owner, after.group, after.mask, after.other), (Some(7), Some(4), Some(5), Some(1)));
        assert_eq!(AclRule { mask: None, ..golden() }.with_mode(0o751).group, Some(5));
        let child = golden().for_child(0o752);
        assert_eq!((child.owner, child.group, child.mask, child.other), (Some(6), Some(4), Some(5), Some(0)));
        assert_eq!(child.named_users, golden().named_users);
        assert_eq!(AclRule { mask: None, ..golden() }.for_child(0o722).group, Some(0));
    }

    #[test]
    fn attributes_read_back() {
        let named = |id| AclEntry { id, perm: 5 };
        let full = AclRule { named_groups: vec![named(7), named(70_000)], ..golden() };
        for rule in [golden(), full.clone(), AclRule { mask: None, named_users: vec![], ..golden() }] {
            assert_eq!(AclRule::from_xattr(&rule.to_xattr()).unwrap(), Some(rule));
        }
        assert_eq!(AclRule::from_xattr(&[2, 0, 0, 0]).unwrap(), None);
        let unordered = AclRule { named_groups: vec![named(70_000), named(7)], ..golden() };
        assert_eq!(AclRule::from_xattr(&unordered.to_xattr()).unwrap(), Some(full));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let named = AclEntry { id: 7, perm: 5 };
        let invalid = [
            AclRule { owner: None, ..golden() },
            AclRule { group: None, ..golden() },
            AclRule { other: None, ..golden() },
            AclRule { mask: None, ..golden() },
            AclRule { other: Some(8), ..golden() },
            AclRule { named_users: vec![named, named], ..golden() },
        ];
        let mut values: Vec<Vec<u8>> = invalid.iter().map(AclRule::to_xattr).collect();
        let good = golden().to_xattr();
        values.push(good[..3].to_vec());
        values.push(good[..good.len() - 1].to_vec());
        values.push([&[3, 0, 0, 0], &good[4..]].concat());
        values.push([&good[..], &good[4..]].concat());
        values.push([&good[..], &[0x40, 0, 7, 0, 0, 0, 0, 0]].concat());
        for value in values {
            assert!(AclRule::from_xattr(&value).is_err(), "{value:?}");
        }
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
