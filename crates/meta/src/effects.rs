//! What a change does to use: of the volume, of directories, of quotas (spec sections 12 and 16).

use std::collections::BTreeMap;

use shoal_format::{Attr, Ino};

use crate::quota::QuotaKey;
use crate::record::DirUsage;

/// Change of use by one operation, or by many. Negative where things were removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Accounted bytes of the volume.
    pub space: i64,
    /// Inodes of the volume.
    pub inodes: i64,
    /// Use by direct children, of each directory whose children changed. Quotas on it and above it are charged with it.
    pub dirs: BTreeMap<Ino, DirUsage>,
    /// More use below directories than that of direct children: that of a tree that moved. Only quotas are charged with it.
    pub trees: BTreeMap<Ino, DirUsage>,
    /// What users and groups own more, inode by inode: names do not count here, and what is in the trash has its owner still.
    pub(crate) owners: BTreeMap<QuotaKey, DirUsage>,
    /// What each quota is charged with. Worked out from the above when the change is settled.
    pub(crate) quotas: BTreeMap<QuotaKey, DirUsage>,
}

impl Effects {
    /// A new inode under its first name in `parent`.
    pub fn created(parent: Ino, attr: &Attr) -> Effects {
        let mut effects = Effects::default();
        effects.inode_added(attr);
        effects.name_added(parent, attr);
        effects
    }

    /// The volume gained an inode.
    pub fn inode_added(&mut self, attr: &Attr) {
        self.space += DirUsage::of(attr).space;
        self.inodes += 1;
        self.owned(attr, DirUsage::of(attr));
    }

    /// The volume lost an inode.
    pub fn inode_removed(&mut self, attr: &Attr) {
        self.space -= DirUsage::of(attr).space;
        self.inodes -= 1;
        self.owned(attr, DirUsage::of(attr).negated());
    }

    /// An inode of `before` has the owners of `after`.
    pub fn given(&mut self, before: &Attr, after: &Attr) {
        self.owned(before, DirUsage::of(before).negated());
        self.owned(after, DirUsage::of(before));
        self.owners.retain(|_, usage| *usage != DirUsage::default());
    }

    /// The owners of an inode own this much more.
    fn owned(&mut self, attr: &Attr, more: DirUsage) {
        for owner in QuotaKey::owners(attr) {
            self.owners.entry(owner).or_default().add(DirUsage { length: 0, ..more });
        }
    }

    /// Directory `parent` gained a name of the inode.
    pub fn name_added(&mut self, parent: Ino, attr: &Attr) {
        self.dirs.entry(parent).or_default().add(DirUsage::of(attr));
    }

    /// Directory `parent` lost a name of the inode.
    pub fn name_removed(&mut self, parent: Ino, attr: &Attr) {
        self.dirs.entry(parent).or_default().add(DirUsage::of(attr).negated());
    }

    /// A file of `before` became `after`; `parents` holds each directory with a name of it as often as it holds one.
    pub fn resized(&mut self, parents: &[Ino], before: &Attr, after: &Attr) {
        let (old, new) = (DirUsage::of(before), DirUsage::of(after));
        let more = DirUsage { length: new.length - old.length, space: new.space - old.space, inodes: 0 };
        self.space += more.space;
        self.owned(after, more);
        for parent in parents {
            self.dirs.entry(*parent).or_default().add(more);
        }
    }

    /// Adds what another change did.
    pub(crate) fn merge(&mut self, other: &Effects) {
        self.space += other.space;
        self.inodes += other.inodes;
        merge(&mut self.dirs, &other.dirs);
        merge(&mut self.trees, &other.trees);
        merge(&mut self.owners, &other.owners);
        merge(&mut self.quotas, &other.quotas);
    }

    /// True if the volume holds more than before.
    pub(crate) fn grows(&self) -> bool {
        self.space > 0 || self.inodes > 0
    }

    /// True if nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Effects::default()
    }
}

fn merge<K: Copy + Ord>(ours: &mut BTreeMap<K, DirUsage>, theirs: &BTreeMap<K, DirUsage>) {
    for (key, usage) in theirs {
        ours.entry(*key).or_default().add(*usage);
    }
}

#[cfg(test)]
mod tests {
    use shoal_format::{FileType, Time};

    use super::*;

    #[test]
    fn owners_are_charged_by_the_inode() {
        let file = |uid, length| {
            let attr = Attr::new(FileType::Regular, 0o644, Ino::ROOT, Time::default());
            Attr { uid, gid: 8, length, ..attr }
        };
        let mut effects = Effects::created(Ino(5), &file(7, 1));
        effects.name_added(Ino(6), &file(7, 1));
        effects.resized(&[Ino(5), Ino(6)], &file(7, 1), &file(7, 5000));
        let of = |space, inodes| DirUsage { length: 0, space, inodes };
        let mut want = BTreeMap::from([(QuotaKey::User(7), of(8192, 1)), (QuotaKey::Group(8), of(8192, 1))]);
        assert_eq!(effects.owners, want);
        let mut given = Effects::default();
        given.given(&file(7, 5000), &file(9, 5000));
        assert_eq!(
            (given.space, given.inodes, given.owners.len()),
            (0, 0, 2),
            "the group stays, and so does the whole"
        );
        effects.merge(&given);
        want.insert(QuotaKey::User(7), of(0, 0));
        want.insert(QuotaKey::User(9), of(8192, 1));
        assert_eq!(effects.owners, want);
    }

    #[test]
    fn what_comes_and_goes_is_nothing() {
        let file = |length| Attr { length, ..Attr::new(FileType::Regular, 0o644, Ino::ROOT, Time::default()) };
        let mut effects = Effects::created(Ino(5), &file(1));
        effects.resized(&[Ino(5), Ino(5), Ino(6)], &file(1), &file(5000));
        assert_eq!((effects.space, effects.inodes), (8192, 1));
        assert_eq!(effects.dirs[&Ino(5)], DirUsage { length: 1 + 2 * 4999, space: 3 * 4096, inodes: 1 });
        assert_eq!(effects.dirs[&Ino(6)], DirUsage { length: 4999, space: 4096, inodes: 0 });

        let mut back = Effects::default();
        back.resized(&[Ino(5), Ino(5), Ino(6)], &file(5000), &file(1));
        back.name_removed(Ino(5), &file(1));
        back.inode_removed(&file(1));
        effects.merge(&back);
        assert_eq!((effects.space, effects.inodes), (0, 0));
        assert!(effects.dirs.values().all(|usage| *usage == DirUsage::default()));
        assert!(Effects::default().is_empty() && !effects.is_empty());
    }
}
