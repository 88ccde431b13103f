//! Noting when an inode was read last (spec section 28.2; mount(8), relatime and strictatime).

use async_trait::async_trait;
use shoal_format::{Attr, Ino, Time};

use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;

/// After this long the time of an access is old in any case.
const OLD_NS: i128 = 24 * 3600 * 1_000_000_000;
/// No time of an access is younger than this when it is replaced.
const GRAIN_NS: i128 = 1_000_000_000;

/// When reading an inode changes the time of its last access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtimeMode {
    /// Never.
    #[default]
    Never,
    /// When it was changed since, or read a day ago.
    Relative,
    /// When it was read more than a second ago.
    Strict,
}

impl AtimeMode {
    /// Whether a read at `now` of an inode with attributes `attr` changes the time of its last access.
    pub fn wants(self, attr: &Attr, now: Time) -> bool {
        let nanos = |time: Time| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        let age = nanos(now) - nanos(attr.atime);
        let relative = attr.mtime > attr.atime || attr.ctime > attr.atime || age > OLD_NS;
        match self {
            AtimeMode::Never => false,
            AtimeMode::Relative => relative,
            AtimeMode::Strict => relative || age > GRAIN_NS,
        }
    }
}

/// Notes that `ino` was read; gives its attributes if that changed them.
pub(crate) struct NoteRead {
    pub(crate) ino: Ino,
    pub(crate) mode: AtimeMode,
}

#[async_trait]
impl Change for NoteRead {
    type Output = Option<Attr>;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Option<Attr>, Effects), MetaError> {
        let old = txn.attrs_locked(&[self.ino]).await?.pop().flatten().ok_or_else(|| MetaError::no_inode(self.ino))?;
        if !self.mode.wants(&old, context.now) {
            return Ok((None, Effects::default()));
        }
        let new = Attr { atime: context.now, ..old };
        txn.update_attrs(&[(self.ino, new.clone())]).await?;
        context.log(txn, || LogEntry::new("ACCESS").with(self.ino)).await?;
        Ok((Some(new), Effects::default()))
    }
}

#[cfg(test)]
mod tests {
    use shoal_format::FileType;

    use super::*;

    fn at(secs: i64, nanos: u32) -> Time {
        Time { secs, nanos }
    }

    #[test]
    fn a_read_counts_by_what_happened_since_the_last() {
        let read = |atime, changed, now| {
            let attr = Attr { atime, ..Attr::new(FileType::Regular, 0o644, Ino::ROOT, changed) };
            [AtimeMode::Never, AtimeMode::Relative, AtimeMode::Strict].map(|mode| mode.wants(&attr, now))
        };
        assert_eq!(read(at(100, 0), at(100, 1), at(100, 2)), [false, true, true], "changed since");
        assert_eq!(read(at(100, 1), at(100, 1), at(100, 2)), [false, false, false], "just read");
        assert_eq!(read(at(100, 0), at(50, 0), at(101, 0)), [false, false, false]);
        assert_eq!(read(at(100, 0), at(50, 0), at(101, 1)), [false, false, true], "a second ago");
        assert_eq!(read(at(100, 0), at(50, 0), at(100 + 86_400, 0)), [false, false, true]);
        assert_eq!(read(at(100, 0), at(50, 0), at(100 + 86_400, 1)), [false, true, true], "a day ago");
        assert_eq!(read(at(900, 0), at(50, 0), at(100, 0)), [false, false, false], "ahead of the clock");
    }
}
