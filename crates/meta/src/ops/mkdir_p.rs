//! A directory at a path, with every directory above it.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, Time};

use super::create::inherit;
use super::import::import;
use super::import_plan::{ImportBatch, ImportEntry};
use super::lookup::lookup;
use super::path::components;
use super::settings::settings_for_change;
use crate::changelog::LogWriter;
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::name::show_name;
use crate::record::IdKind;
use crate::retry::Operation;

/// What directories that have to be created look like; existing ones stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct MkdirP {
    /// Permission bits; no umask is applied.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory above has the set-group-id bit, whose group is then inherited.
    pub gid: u32,
}

impl Default for MkdirP {
    /// Mode 0755, owned by root.
    fn default() -> MkdirP {
        MkdirP { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// Creates what is missing of a path.
pub(crate) struct CreatePath<'a> {
    pub(crate) at: &'a str,
    pub(crate) path: &'a [u8],
    pub(crate) how: MkdirP,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for CreatePath<'_> {
    type Output = (Ino, Attr);

    async fn run(&self, txn: &dyn Txn) -> Result<(Ino, Attr), MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        let names: Vec<&[u8]> = components(self.path).collect();
        if names.contains(&&b".."[..]) {
            return Err(MetaError::invalid(format!("`{}` must not hold `..`", show_name(self.path))));
        }
        let (mut ino, mut attr, missing) = self.existing(txn, &names).await?;
        if missing.is_empty() {
            return Ok((ino, attr));
        }
        let ids = txn.take_ids(IdKind::Inode, missing.len() as u64).await?;
        let mut batch = ImportBatch::default();
        for (name, id) in missing.iter().zip(ids) {
            let entry = self.child(ino, &attr, name, Ino(id));
            (ino, attr) = (entry.ino, entry.attr.clone());
            batch.entries.push(entry);
        }
        let made = async {
            import(txn, &settings, &batch, self.log, self.now).await?;
            txn.write_now().await
        };
        match made.await {
            // Another client made the same directory meanwhile: the next attempt finds it.
            Err(MetaError::Exists { .. }) => return Err(MetaError::Contended { at: self.at.to_owned() }),
            done => done?,
        }
        let attr = txn.attr(ino).await?.ok_or_else(|| MetaError::no_inode(ino))?;
        Ok((ino, attr))
    }
}

impl CreatePath<'_> {
    /// The deepest directory of the path that exists, and the names below it that do not.
    async fn existing<'n>(
        &self,
        records: &dyn Records,
        names: &'n [&'n [u8]],
    ) -> Result<(Ino, Attr, &'n [&'n [u8]]), MetaError> {
        let root = records.attr(Ino::ROOT).await?.ok_or_else(|| MetaError::no_inode(Ino::ROOT))?;
        let mut here = (Ino::ROOT, root);
        for (depth, name) in names.iter().enumerate() {
            match lookup(records, here.0, name).await? {
                None => return Ok((here.0, here.1, &names[depth..])),
                Some((_, attr)) if !attr.is_dir() => {
                    let path = names[..=depth].join(&b'/');
                    return Err(MetaError::NotDirectory { what: format!("`/{}`", show_name(&path)) });
                }
                Some(child) => here = child,
            }
        }
        Ok((here.0, here.1, &[]))
    }

    /// A new directory in `parent`, with what it inherits (spec section 24.2).
    fn child(&self, parent: Ino, above: &Attr, name: &[u8], ino: Ino) -> ImportEntry {
        let mut attr = Attr::new(FileType::Directory, self.how.mode, parent, self.now);
        attr.uid = self.how.uid;
        attr.gid = self.how.gid;
        inherit(&mut attr, above);
        let name = Bytes::copy_from_slice(name);
        ImportEntry { parent, name, ino, attr, symlink: None, xattrs: Vec::new(), chunks: Vec::new() }
    }
}
