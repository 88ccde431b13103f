//! The walk over the tree that is checked.

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, Time};
use shoal_runtime::clock;

use super::finding::{Fault, Finding};
use super::repair::{RepairDir, RepairFile, RepairTotal, RepairUsage, children, dir_links, file_links};
use crate::engine::Records;
use crate::error::MetaError;
use crate::meta::Meta;
use crate::record::{Counter, DirEntry, DirUsage};
use crate::retry::transact;

/// Names read at once.
const PAGE: usize = 1024;
/// Deepest path; a longer one is a cycle.
const DEPTH_MAX: usize = 4096;

/// What is checked, and whether it is put right.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// The path from the root.
    pub path: Vec<u8>,
    /// Put right what can be. Needs a database that is open for writing.
    pub repair: bool,
    /// Check everything below a directory too.
    pub recursive: bool,
    /// Count the use of directories that is known, too.
    pub sync_usage: bool,
    /// Permission bits of directories that are made anew.
    pub dir_mode: u16,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Directories and names of regular files looked at.
    pub checked: u64,
    /// Findings that were not put right.
    pub broken: u64,
    /// Findings that were.
    pub repaired: u64,
}

/// Checks the inode at `options.path`, and what is below it if asked to. `found` gets each finding, and `file` each regular file.
///
/// Errors: `NotFound` for a path that does not exist; what the database reports.
pub async fn check_tree(
    meta: &Meta,
    options: &CheckOptions,
    found: &mut (dyn FnMut(&Finding) + Send),
    file: &mut (dyn FnMut(Ino, &Attr) + Send),
) -> Result<CheckReport, MetaError> {
    let settings = meta.settings().await?;
    let mut check = Check { meta, options, found, file, dir_stats: settings.dir_stats, report: CheckReport::default() };
    let (start, path) = find(meta, &options.path).await?;
    check.from(start, path).await?;
    if options.recursive && options.sync_usage && options.path.iter().all(|byte| *byte == b'/') {
        check.totals().await?;
    }
    Ok(check.report)
}

/// A name to look at.
struct Place {
    parent: Ino,
    ino: Ino,
    kind: FileType,
    attr: Option<Attr>,
}

/// What is at `path`, also where its inode does not exist, and the path without what is superfluous in it.
async fn find(meta: &Meta, path: &[u8]) -> Result<(Place, Vec<u8>), MetaError> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    let clean = parts.iter().flat_map(|part| [b"/", *part].concat()).collect();
    let missing = || MetaError::invalid(format!("there is no {} in the volume", String::from_utf8_lossy(path)));
    let Some((last, above)) = parts.split_last() else {
        let attr = meta.getattr(Ino::ROOT).await?;
        return Ok((Place { parent: Ino::ROOT, ino: Ino::ROOT, kind: FileType::Directory, attr }, Vec::new()));
    };
    let (parent, _) = meta.resolve_path(&above.join(&b'/')).await?.ok_or_else(missing)?;
    if parent == Ino::ROOT && *last == crate::name::TRASH {
        let attr = meta.getattr(Ino::TRASH).await?;
        return Ok((Place { parent, ino: Ino::TRASH, kind: FileType::Directory, attr }, clean));
    }
    let entry = meta.engine().records().entry(parent, last).await?.ok_or_else(missing)?;
    Ok((Place { parent, ino: entry.dentry.ino, kind: entry.dentry.kind, attr: entry.attr }, clean))
}

struct Check<'a> {
    meta: &'a Meta,
    options: &'a CheckOptions,
    found: &'a mut (dyn FnMut(&Finding) + Send),
    file: &'a mut (dyn FnMut(Ino, &Attr) + Send),
    dir_stats: bool,
    report: CheckReport,
}

/// A directory on the way down.
struct Frame {
    dir: Ino,
    /// Bytes of the path that are its own.
    path_len: usize,
    entries: std::vec::IntoIter<DirEntry>,
    /// Behind which name the next page begins; `None` behind the last.
    after: Option<Bytes>,
}

impl Check<'_> {
    async fn from(&mut self, start: Place, mut path: Vec<u8>) -> Result<(), MetaError> {
        self.place(&start, &path).await?;
        if !self.options.recursive || start.kind != FileType::Directory {
            return Ok(());
        }
        let frame = |dir, path_len| Frame { dir, path_len, entries: Vec::new().into_iter(), after: Some(Bytes::new()) };
        let mut stack = vec![frame(start.ino, path.len())];
        while let Some(here) = stack.last_mut() {
            let Some(entry) = here.entries.next() else {
                let Some(after) = here.after.take() else {
                    stack.pop();
                    continue;
                };
                let page = self.records().entries(here.dir, &after, PAGE).await?;
                here.after = page.last().filter(|_| page.len() == PAGE).map(|last| last.name.clone());
                here.entries = page.into_iter();
                continue;
            };
            path.truncate(here.path_len);
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            let place = Place { parent: here.dir, ino: entry.ino, kind: entry.kind, attr: entry.attr };
            self.place(&place, &path).await?;
            if place.kind == FileType::Directory {
                if stack.len() > DEPTH_MAX {
                    let what = format!("directory {} lies in a cycle of directories", place.ino);
                    return Err(MetaError::Corrupt { what });
                }
                stack.push(frame(place.ino, path.len()));
            }
        }
        Ok(())
    }

    fn records(&self) -> &dyn Records {
        self.meta.engine().records()
    }

    async fn place(&mut self, place: &Place, path: &[u8]) -> Result<(), MetaError> {
        // As real clients count.
        self.report.checked += u64::from(matches!(place.kind, FileType::Directory | FileType::Regular));
        match (place.kind, &place.attr) {
            (FileType::Directory, attr) => self.dir(place, attr.as_ref(), path).await,
            (_, Some(attr)) => self.other(place, attr, path).await,
            (_, None) => {
                self.tell(path, place.ino, Fault::InodeLost, false);
                Ok(())
            }
        }
    }

    async fn dir(&mut self, place: &Place, attr: Option<&Attr>, path: &[u8]) -> Result<(), MetaError> {
        let ino = place.ino;
        let counted = children(self.records(), ino).await?;
        let nlink = dir_links(ino, counted.subdirs);
        let fault = match attr {
            None => Some(Fault::DirectoryLost),
            Some(attr) if attr.nlink != nlink => Some(Fault::Links { kept: attr.nlink, counted: nlink }),
            Some(attr) if attr.parent != place.parent => Some(Fault::Parent { kept: attr.parent, real: place.parent }),
            Some(_) => None,
        };
        if let Some(fault) = fault {
            let (parent, mode) = (place.parent, self.options.dir_mode);
            self.repair(path, ino, fault, &RepairDir { ino, parent, mode, now: now() }).await?;
        }
        self.usage(path, ino, counted.usage).await
    }

    /// Use of a directory. The trash root keeps none.
    async fn usage(&mut self, path: &[u8], dir: Ino, counted: DirUsage) -> Result<(), MetaError> {
        if !self.dir_stats || dir == Ino::TRASH {
            return Ok(());
        }
        let kept = self.records().dir_usage(dir).await?;
        let wrong = match kept {
            None => true,
            Some(kept) => self.options.sync_usage && kept != counted,
        };
        if wrong {
            self.repair(path, dir, Fault::Usage { kept, counted }, &RepairUsage { dir }).await?;
        }
        Ok(())
    }

    async fn other(&mut self, place: &Place, attr: &Attr, path: &[u8]) -> Result<(), MetaError> {
        let (ino, parent) = (place.ino, place.parent);
        let counted = if attr.nlink == 1 { 1 } else { file_links(self.records(), ino, attr).await? };
        let fault = if counted != attr.nlink {
            Some(Fault::Links { kept: attr.nlink, counted })
        } else if attr.nlink == 1 && attr.parent != Ino::NONE && attr.parent != parent {
            Some(Fault::Parent { kept: attr.parent, real: parent })
        } else {
            None
        };
        if let Some(fault) = fault {
            self.repair(path, ino, fault, &RepairFile { ino, parent }).await?;
        }
        if attr.kind == FileType::Regular {
            (self.file)(ino, attr);
        }
        Ok(())
    }

    /// Whether what the volume says of its use is what its inodes add up to.
    async fn totals(&mut self) -> Result<(), MetaError> {
        let (mut total, mut from) = (DirUsage::default(), Bytes::new());
        loop {
            let page = self.records().scan_attrs(&from, PAGE).await?;
            let counted = page.records.iter().filter(|(ino, _)| *ino != Ino::ROOT && *ino != Ino::TRASH);
            counted.for_each(|(_, attr)| total.add(DirUsage::of(attr)));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let space = self.records().counter(Counter::UsedSpace).await?;
        let inodes = self.records().counter(Counter::TotalInodes).await?;
        if (space, inodes) != (total.space, total.inodes) {
            let fault = Fault::Total { kept: (space, inodes), counted: (total.space, total.inodes) };
            let repair = RepairTotal { space: total.space - space, inodes: total.inodes - inodes };
            self.repair(b"/", Ino::ROOT, fault, &repair).await?;
        }
        Ok(())
    }

    async fn repair<O: crate::retry::Operation>(
        &mut self,
        path: &[u8],
        ino: Ino,
        fault: Fault,
        repair: &O,
    ) -> Result<(), MetaError> {
        if self.options.repair {
            transact(self.meta.engine(), repair).await?;
        }
        self.tell(path, ino, fault, self.options.repair);
        Ok(())
    }

    fn tell(&mut self, path: &[u8], ino: Ino, fault: Fault, repaired: bool) {
        if repaired {
            self.report.repaired += 1
        } else {
            self.report.broken += 1
        }
        let path = if path.is_empty() { b"/".to_vec() } else { path.to_vec() };
        (self.found)(&Finding { path, ino, fault, repaired });
    }
}

fn now() -> Time {
    Time::since_epoch(clock::unix_now())
}
