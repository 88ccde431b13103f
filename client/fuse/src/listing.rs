//! Directories as the kernel lists them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{FopenFlags, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyOpen};
use shoal_format::Ino;
use shoal_meta::{Caller, DirEntry, MAY_READ};
use shoal_runtime::clock;
use shoal_types::ErrorKind;
use shoal_vfs::VfsError;

use crate::attr::{file_attr, kind};
use crate::handles::{DirHandle, Handle};
use crate::ops::{GENERATION, ShoalFs};
use crate::virtual_files::VirtualFile;

impl ShoalFs {
    pub(crate) async fn open_dir(&self, caller: &Caller, ino: Ino, reply: ReplyOpen) {
        let listed = clock::now();
        let listing = async {
            self.vfs().access(caller, ino, MAY_READ).await?;
            let attr = self.vfs().getattr(ino).await?;
            let entries = self.vfs().readdir(ino).await?;
            self.vfs().note_read(ino, &attr).await;
            let above = if ino == self.options().root || attr.parent == Ino::NONE { ino } else { attr.parent };
            let parent = self.number(above).0;
            Ok::<_, VfsError>(DirHandle { parent, entries, listed })
        };
        match listing.await {
            Ok(dir) => {
                let kept = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                let flags = if self.options().readdir_cache { kept } else { FopenFlags::empty() };
                reply.opened(self.opened(Handle::Dir(dir)), flags);
            }
            Err(error) => reply.error(self.failed("opendir", ino.0, &error)),
        }
    }

    pub(crate) async fn plus_entries(&self, ino: INodeNo, dir: &DirHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let options = self.options();
        // The kernel takes what it is told here for new: attributes of a listing that has aged are asked for again.
        let recent = clock::now().saturating_duration_since(dir.listed) <= options.attr_ttl;
        for (index, (name, number)) in [(".", ino.0), ("..", dir.parent)].into_iter().enumerate() {
            if (index as u64) < offset {
                continue;
            }
            let mut attr = VirtualFile::Config.attr(0, 0);
            attr.ino = INodeNo(number);
            attr.kind = fuser::FileType::Directory;
            if reply.add(INodeNo(number), index as u64 + 1, name, &Duration::ZERO, &attr, GENERATION) {
                return reply.ok();
            }
        }
        for (index, entry) in dir.entries.iter().enumerate().skip(offset.saturating_sub(2) as usize) {
            let attr = match &entry.attr {
                Some(attr) if recent => attr.clone(),
                _ => match self.vfs().getattr(entry.ino).await {
                    Ok(attr) => attr,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    // Better an error than a listing that lacks names.
                    Err(error) => return reply.error(self.failed("readdirplus", entry.ino.0, &error)),
                },
            };
            let entry_ttl = self.entry_ttl(&attr);
            let (name, ttl) = (OsStr::from_bytes(&entry.name), options.attr_ttl.min(entry_ttl));
            if reply.add(INodeNo(entry.ino.0), index as u64 + 3, name, &ttl, &file_attr(entry.ino, &attr), GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    /// Answers with names and kinds alone.
    pub(crate) fn plain_entries(&self, ino: INodeNo, dir: &DirHandle, offset: u64, mut reply: ReplyDirectory) {
        for (index, (name, number)) in [(".", ino.0), ("..", dir.parent)].into_iter().enumerate() {
            let index = index as u64;
            if index >= offset && reply.add(INodeNo(number), index + 1, fuser::FileType::Directory, name) {
                return reply.ok();
            }
        }
        for (index, entry) in dir.entries.iter().enumerate().skip(offset.saturating_sub(2) as usize) {
            if add_plain(&mut reply, index, entry) {
                break;
            }
        }
        reply.ok();
    }
}

fn add_plain(reply: &mut ReplyDirectory, index: usize, entry: &DirEntry) -> bool {
    reply.add(INodeNo(entry.ino.0), index as u64 + 3, kind(entry.kind), OsStr::from_bytes(&entry.name))
}
