//! A comparable listing of a directory tree: what a user can see of every file, contents included.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes read at once while hashing.
const READ_BYTES: usize = 1 << 20;
/// Longest xattr name list and value Linux allows (xattr(7)).
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Names a mounted volume or a local file system adds to its root; they are not part of the tree.
const ROOT_NAMES_SKIPPED: [&str; 2] = ["lost+found", "System Volume Information"];

/// Every entry of a tree by its path relative to the root; the root itself has the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The entries in order of their paths.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// What can be seen of one file, directory or other entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, and what only that kind has.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_size`.
    pub size: u64,
    /// Modification time: seconds and nanoseconds since 1970.
    pub mtime: (i64, i64),
    /// `st_nlink`.
    pub nlink: u64,
    /// For a file with several names: the first of them in this tree.
    pub same_as: Option<PathBuf>,
    /// Extended attributes by name, except those of the `security.` namespace.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file and the BLAKE3 hash of its content, in hexadecimal.
    File(String),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device and its number.
    Device(u64),
}

/// Reads the whole tree at `root`. Dot-files directly in the root are skipped: a volume shows `.stats`, `.accesslog`, `.config`
/// and `.trash` there, some of which block their reader.
pub fn snapshot(root: &Path) -> io::Result<Snapshot> {
    let mut walk = Walk { root, entries: BTreeMap::new(), first_names: HashMap::new() };
    walk.visit(Path::new(""))?;
    Ok(Snapshot { entries: walk.entries })
}

impl Snapshot {
    /// This snapshot without what file systems choose freely for directories: their size, link count and modification time.
    pub fn without_directory_details(mut self) -> Snapshot {
        for entry in self.entries.values_mut().filter(|entry| entry.kind == EntryKind::Directory) {
            (entry.size, entry.nlink, entry.mtime) = (0, 0, (0, 0));
        }
        self
    }

    /// One line for each way in which `other` differs; empty if the two are equal.
    pub fn differences(&self, other: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, ours) in &self.entries {
            match other.entries.get(path) {
                None => lines.push(format!("{}: missing", path.display())),
                Some(theirs) => lines.extend(ours.differences(theirs, path)),
            }
        }
        let added = other.entries.keys().filter(|path| !self.entries.contains_key(*path));
        lines.extend(added.map(|path| format!("{}: should not be there", path.display())));
        lines
    }

    /// Panics with the first differences if `other` is not equal; `what` says what was compared.
    #[track_caller]
    pub fn assert_same(&self, other: &Snapshot, what: &str) {
        let lines = self.differences(other);
        let shown = lines.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ");
        assert!(lines.is_empty(), "{what}: {} differences, the first:\n  {shown}", lines.len());
    }

    /// The sum of the sizes of all regular files, hard links counted once.
    pub fn bytes(&self) -> u64 {
        let files = self.entries.values().filter(|entry| matches!(entry.kind, EntryKind::File(_)));
        files.filter(|entry| entry.same_as.is_none()).map(|entry| entry.size).sum()
    }
}

impl Entry {
    fn differences(&self, other: &Entry, path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut check = |what: &str, same: bool, ours: String, theirs: String| {
            if !same {
                lines.push(format!("{}: {what} {ours} became {theirs}", path.display()));
            }
        };
        let octal = |mode: u32| format!("{mode:04o}");
        check("kind", self.kind == other.kind, format!("{:?}", self.kind), format!("{:?}", other.kind));
        check("mode", self.mode == other.mode, octal(self.mode), octal(other.mode));
        check("uid", self.uid == other.uid, self.uid.to_string(), other.uid.to_string());
        check("gid", self.gid == other.gid, self.gid.to_string(), other.gid.to_string());
        check("size", self.size == other.size, self.size.to_string(), other.size.to_string());
        check("mtime", self.mtime == other.mtime, format!("{:?}", self.mtime), format!("{:?}", other.mtime));
        check("nlink", self.nlink == other.nlink, self.nlink.to_string(), other.nlink.to_string());
        let (ours, theirs) = (format!("{:?}", self.same_as), format!("{:?}", other.same_as));
        check("hard link to", self.same_as == other.same_as, ours, theirs);
        let (ours, theirs) = (shown(&self.xattrs), shown(&other.xattrs));
        check("xattrs", self.xattrs == other.xattrs, ours, theirs);
        lines
    }
}

/// Attributes as a message shows them: escaped, and not all of a long value.
fn shown(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let one = |(name, value): (&Vec<u8>, &Vec<u8>)| {
        format!("{}={} ({} bytes)", name.escape_ascii(), value[..value.len().min(16)].escape_ascii(), value.len())
    };
    format!("{{{}}}", xattrs.iter().map(one).collect::<Vec<_>>().join(", "))
}

struct Walk<'a> {
    root: &'a Path,
    entries: BTreeMap<PathBuf, Entry>,
    /// First path seen of each (device, inode) that has several names.
    first_names: HashMap<(u64, u64), PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, relative: &Path) -> io::Result<()> {
        let path = if relative.as_os_str().is_empty() { self.root.to_owned() } else { self.root.join(relative) };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let found = fs::symlink_metadata(&path).map_err(named)?;
        let entry = self.entry(relative, &path, &found).map_err(named)?;
        let is_directory = entry.kind == EntryKind::Directory;
        self.entries.insert(relative.to_owned(), entry);
        if is_directory {
            let mut names =
                fs::read_dir(&path)?.map(|item| item.map(|item| item.file_name())).collect::<io::Result<Vec<_>>>()?;
            names.retain(|name| !(relative.as_os_str().is_empty() && is_skipped(name)));
            names.sort();
            for name in names {
                self.visit(&relative.join(name))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, relative: &Path, path: &Path, found: &Metadata) -> io::Result<Entry> {
        let kind = kind_of(path, found)?;
        let same_as = if found.nlink() > 1 && kind != EntryKind::Directory {
            let first = self.first_names.entry((found.dev(), found.ino())).or_insert_with(|| relative.to_owned());
            (first != relative).then(|| first.clone())
        } else {
            None
        };
        Ok(Entry {
            kind,
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            size: found.size(),
            mtime: (found.mtime(), found.mtime_nsec()),
            nlink: found.nlink(),
            same_as,
            xattrs: xattrs_of(path)?,
        })
    }
}

fn is_skipped(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || ROOT_NAMES_SKIPPED.iter().any(|skipped| name == *skipped)
}

fn kind_of(path: &Path, found: &Metadata) -> io::Result<EntryKind> {
    let kind = found.file_type();
    Ok(if kind.is_file() {
        EntryKind::File(hash_of(path)?)
    } else if kind.is_dir() {
        EntryKind::Directory
    } else if kind.is_symlink() {
        EntryKind::Symlink(fs::read_link(path)?)
    } else if kind.is_fifo() {
        EntryKind::Fifo
    } else if kind.is_socket() {
        EntryKind::Socket
    } else {
        EntryKind::Device(found.rdev())
    })
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

fn xattrs_of(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = vec![0u8; XATTR_BYTES_MAX];
    let listed = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(listed) => listed,
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::NODATA) => {
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(error.into()),
    };
    let names: Vec<Vec<u8>> = buffer[..listed].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut found = BTreeMap::new();
    for name in names.into_iter().filter(|name| !name.is_empty() && !name.starts_with(b"security.")) {
        let len = rustix::fs::lgetxattr(path, name.as_slice(), &mut buffer[..])?;
        found.insert(name, buffer[..len].to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestDir;

    #[test]
    fn a_snapshot_sees_content_mode_links_and_skips_root_dot_files() {
        let dir = TestDir::new("snapshot");
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/a"), "one").unwrap();
        fs::hard_link(dir.join("d/a"), dir.join("d/b")).unwrap();
        std::os::unix::fs::symlink("d/a", dir.join("l")).unwrap();
        fs::write(dir.join(".stats"), "skipped").unwrap();
        fs::write(dir.join("d/.kept"), "").unwrap();
        let before = snapshot(dir.path()).unwrap();
        let paths: Vec<_> = before.entries.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["", "d", "d/.kept", "d/a", "d/b", "l"]);
        assert_eq!(before.entries[Path::new("d/b")].same_as.as_deref(), Some(Path::new("d/a")));
        assert_eq!(before.entries[Path::new("l")].kind, EntryKind::Symlink(PathBuf::from("d/a")));
        assert_eq!(before.bytes(), 3);
        before.assert_same(&snapshot(dir.path()).unwrap(), "nothing changed");
    }

    #[test]
    fn every_change_is_a_difference() {
        let dir = TestDir::new("snapshot");
        fs::write(dir.join("a"), "one").unwrap();
        fs::write(dir.join("b"), "").unwrap();
        let before = snapshot(dir.path()).unwrap().without_directory_details();
        fs::write(dir.join("a"), "two").unwrap();
        rustix::fs::chmod(dir.join("a"), rustix::fs::Mode::from(0o4711)).unwrap();
        fs::remove_file(dir.join("b")).unwrap();
        fs::write(dir.join("c"), "").unwrap();
        let after = snapshot(dir.path()).unwrap().without_directory_details();
        let lines = before.differences(&after).join("\n");
        for part in ["a: kind File(", "became 4711", "b: missing", "c: should not be there"] {
            assert!(lines.contains(part), "no `{part}` in:\n{lines}");
        }
    }
}
