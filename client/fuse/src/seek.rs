//! `lseek` for data and holes; every other whence the kernel answers itself.

use fuser::{Errno, FileHandle, INodeNo, ReplyLseek};
use shoal_vfs::Seek;

use crate::handles::Handle;
use crate::ops::ShoalFs;

impl ShoalFs {
    pub(crate) fn on_seek(&self, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(from) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let Some(handle) = self.handle(fh) else { return reply.error(Errno::EBADF) };
        let fs = self.clone();
        self.spawn("lseek", async move {
            let found = match &*handle {
                Handle::File(file, _) => fs.vfs().seek(file, from, what).await,
                Handle::Virtual(content) => Ok(in_full(content.len() as u64, from, what)),
                Handle::Dir(_) | Handle::Log(_) => return reply.error(Errno::EINVAL),
            };
            match found {
                Ok(Some(at)) => reply.offset(at as i64),
                Ok(None) => reply.error(Errno::ENXIO),
                Err(error) => reply.error(fs.failed("lseek", ino.0, &error)),
            }
        });
    }
}

/// [`shoal_vfs::Vfs::seek`] of a file of `len` bytes without a hole.
fn in_full(len: u64, from: u64, what: Seek) -> Option<u64> {
    let found = if what == Seek::Data { from } else { len };
    (from < len).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_ends_in_a_hole() {
        assert_eq!(in_full(10, 3, Seek::Data), Some(3));
        assert_eq!(in_full(10, 3, Seek::Hole), Some(10));
        assert_eq!((in_full(10, 10, Seek::Data), in_full(10, 10, Seek::Hole)), (None, None));
    }
}
