//! What a check finds.

use std::fmt;

use shoal_format::Ino;

use crate::name::show_name;
use crate::record::DirUsage;

/// Something is wrong with an inode, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Bytes of the path.
    pub path: Vec<u8>,
    /// The inode.
    pub ino: Ino,
    /// What is wrong.
    pub fault: Fault,
    /// It has been put right.
    pub repaired: bool,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A directory's name stands for an inode that does not exist.
    DirectoryLost,
    /// So does the name of something else.
    InodeLost,
    /// The link count is not the number of names, or of sub-directories and 2.
    Links {
        /// As stored.
        kept: u32,
        /// As counted.
        counted: u32,
    },
    /// The inode says that it is in another directory.
    Parent {
        /// As stored.
        kept: Ino,
        /// Where it is.
        real: Ino,
    },
    /// Use of a directory is not that of its children; `None` where it is unknown.
    Usage {
        /// As stored.
        kept: Option<DirUsage>,
        /// As counted.
        counted: DirUsage,
    },
    /// Use of the volume, in bytes and inodes, is not that of its inodes.
    Total {
        /// As stored.
        kept: (i64, i64),
        /// As counted.
        counted: (i64, i64),
    },
}

impl Fault {
    /// True if a repair can put it right.
    pub fn can_be_repaired(self) -> bool {
        self != Fault::InodeLost
    }

    /// True if only numbers about use are wrong.
    pub fn is_statistics(self) -> bool {
        matches!(self, Fault::Usage { .. } | Fault::Total { .. })
    }
}

/// One line, in the words of real clients where they have any.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, ino) = (show_name(&self.path), self.ino);
        let usage = |usage: DirUsage| format!("{{{} {} {}}}", usage.length, usage.space, usage.inodes);
        match self.fault {
            Fault::DirectoryLost => write!(f, "directory {path} (inode {ino}) has no attributes")?,
            Fault::InodeLost => write!(f, "{path} names inode {ino}, which does not exist")?,
            Fault::Links { kept, counted } => write!(f, "nlink of {path} should be {counted}, but got {kept}")?,
            Fault::Parent { kept, real } => write!(f, "parent of {path} should be {real}, but got {kept}")?,
            Fault::Usage { kept: Some(kept), counted } => {
                write!(f, "usage stat of {path} should be {}, but got {}", usage(counted), usage(kept))?;
            }
            Fault::Usage { kept: None, counted } => {
                write!(f, "usage stat of {path} should be {}, but is missing", usage(counted))?;
            }
            Fault::Total { kept, counted } => write!(
                f,
                "the volume should use {} bytes and {} inodes, but got {} and {}",
                counted.0, counted.1, kept.0, kept.1
            )?,
        }
        match (self.repaired, self.fault) {
            (true, _) => write!(f, "; repaired"),
            (false, Fault::InodeLost) => write!(f, "; remove the name"),
            (false, Fault::Usage { .. }) => {
                write!(f, "; re-run with '--path {path} --repair --sync-dir-stat' to fix it")
            }
            (false, Fault::Total { .. }) => {
                write!(f, "; re-run with '--path / --recursive --repair --sync-dir-stat' to fix it")
            }
            (false, _) => write!(f, "; re-run with '--path {path} --repair' to fix it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_wrong_and_what_to_do() {
        let line = |fault, repaired| Finding { path: b"/d".to_vec(), ino: Ino(2), fault, repaired }.to_string();
        let links = Fault::Links { kept: 9, counted: 4 };
        assert_eq!(
            line(links, false),
            "nlink of /d should be 4, but got 9; re-run with '--path /d --repair' to fix it"
        );
        assert_eq!(line(links, true), "nlink of /d should be 4, but got 9; repaired");
        let usage = |space| DirUsage { length: 150_000, space, inodes: 1 };
        assert_eq!(
            line(Fault::Usage { kept: Some(usage(5)), counted: usage(151_552) }, false),
            "usage stat of /d should be {150000 151552 1}, but got {150000 5 1}; \
             re-run with '--path /d --repair --sync-dir-stat' to fix it"
        );
    }
}
