//! Whether everything a volume keeps twice agrees: link counts, parents, use of directories and of the volume.

use std::collections::BTreeMap;

use shoal_format::{Attr, Ino};

use super::Case;
use crate::record::{Counter, DirUsage};
use crate::session::Session;

/// What a walk over all names found of one inode.
struct Found {
    attr: Attr,
    /// Directories that name it, each as often as it does.
    parents: Vec<Ino>,
    /// Sub-directories, of a directory.
    subdirs: u32,
}

impl Case {
    /// Panics unless the volume's records agree with each other once `session`, the only client, has written what it summed up.
    /// `held` are removed files that it still has open.
    pub(super) async fn audit(&self, session: &Session, held: &[Ino]) {
        self.ok(session.flush_accounts().await);
        self.audit_settled(held).await;
    }

    /// The same where all clients have written everything.
    pub(super) async fn audit_settled(&self, held: &[Ino]) {
        let mut found: BTreeMap<Ino, Found> = BTreeMap::new();
        let mut pending = vec![Ino::ROOT, Ino::TRASH];
        while let Some(dir) = pending.pop() {
            let Some(attr) = self.ok(self.meta.getattr(dir).await) else {
                assert_eq!(dir, Ino::TRASH, "{}: directory {dir} has no attributes", self.name);
                continue;
            };
            let (mut usage, mut subdirs) = (DirUsage::default(), 0);
            for entry in self.ok(self.meta.readdir(dir).await) {
                let Some(child) = entry.attr else { continue };
                usage.add(DirUsage::of(&child));
                assert_eq!(child.kind, entry.kind, "{}: {}", self.name, entry.name.escape_ascii());
                if child.is_dir() {
                    subdirs += 1;
                    pending.push(entry.ino);
                }
                let known = found.entry(entry.ino).or_insert(Found { attr: child, parents: Vec::new(), subdirs: 0 });
                known.parents.push(dir);
            }
            if dir != Ino::TRASH {
                let kept = self.ok(self.engine.records().dir_usage(dir).await);
                assert_eq!(kept, Some(usage), "{}: use of directory {dir}", self.name);
            }
            let known = found.entry(dir).or_insert(Found { attr, parents: Vec::new(), subdirs: 0 });
            known.subdirs = subdirs;
        }
        self.audit_inodes(&found).await;
        self.audit_totals(&found, held).await;
        self.quotas_agree().await;
    }

    async fn audit_inodes(&self, found: &BTreeMap<Ino, Found>) {
        for (ino, Found { attr, parents, subdirs }) in found {
            let name = self.name;
            if attr.is_dir() {
                let counted = if ino.is_trash() { 0 } else { *subdirs };
                assert_eq!(attr.nlink, 2 + counted, "{name}: links of directory {ino}");
                let above = if *ino == Ino::ROOT || *ino == Ino::TRASH { &[Ino::ROOT][..] } else { parents };
                assert_eq!(above, [attr.parent], "{name}: parent of directory {ino}");
                continue;
            }
            assert_eq!(attr.nlink as usize, parents.len(), "{name}: links of inode {ino}");
            if attr.parent == Ino::NONE {
                let mut counts: BTreeMap<Ino, i64> = BTreeMap::new();
                parents.iter().for_each(|parent| *counts.entry(*parent).or_default() += 1);
                let kept = self.ok(self.engine.records().parents(*ino).await);
                let kept: BTreeMap<Ino, i64> = kept.into_iter().map(|record| (record.parent, record.count)).collect();
                assert_eq!(kept, counts, "{name}: parents of inode {ino}");
            } else {
                assert_eq!(parents[..], [attr.parent], "{name}: parent of inode {ino}");
            }
        }
    }

    async fn audit_totals(&self, found: &BTreeMap<Ino, Found>, held: &[Ino]) {
        let roots = [Ino::ROOT, Ino::TRASH];
        let mut total = DirUsage::default();
        found
            .iter()
            .filter(|(ino, _)| !roots.contains(ino))
            .for_each(|(_, found)| total.add(DirUsage::of(&found.attr)));
        for ino in held {
            let attr = self.some(self.meta.getattr(*ino).await);
            assert_eq!(attr.nlink, 0, "{}: inode {ino} is held", self.name);
            total.add(DirUsage::of(&attr));
        }
        let counter = async |counter| self.ok(self.engine.records().counter(counter).await);
        let kept = (counter(Counter::UsedSpace).await, counter(Counter::TotalInodes).await);
        assert_eq!(kept, (total.space, total.inodes), "{}: space and inodes of the volume", self.name);
    }
}
