//! Where a file has bytes and where not, as tools that copy sparse files ask.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use super::bed::Bed;

const MIB: u64 = 1 << 20;

fn data(file: &File, from: u64) -> Option<u64> {
    found(seek(file, SeekFrom::Data(from)))
}

fn hole(file: &File, from: u64) -> Option<u64> {
    found(seek(file, SeekFrom::Hole(from)))
}

fn found(result: Result<u64, Errno>) -> Option<u64> {
    match result {
        Ok(at) => Some(at),
        Err(Errno::NXIO) => None,
        Err(error) => panic!("lseek fails: {error}"),
    }
}

#[test]
fn data_and_holes_are_told_apart() {
    let Some(bed) = Bed::new("holes") else { return };
    let path = bed.path("sparse");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    assert_eq!((data(&file, 0), hole(&file, 0)), (None, None), "an empty file ends at once");
    // Not synced: what is only written counts too.
    file.write_all_at(&[1; 5000], 100 * MIB).unwrap();
    file.set_len(300 * MIB).unwrap();
    assert_eq!((data(&file, 0), hole(&file, 0)), (Some(100 * MIB), Some(0)));
    assert_eq!(hole(&file, 100 * MIB), Some(100 * MIB + 5000));
    assert_eq!(data(&file, 100 * MIB + 77), Some(100 * MIB + 77));
    assert_eq!((data(&file, 200 * MIB), hole(&file, 200 * MIB)), (None, Some(200 * MIB)));
    assert_eq!((data(&file, 300 * MIB), hole(&file, 300 * MIB)), (None, None), "behind the end");
    file.write_all_at(&vec![2; MIB as usize], 299 * MIB).unwrap();
    assert_eq!(hole(&file, 299 * MIB), Some(300 * MIB), "the end is a hole");
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 100 * MIB, 5000).unwrap();
    assert_eq!(data(&file, 0), Some(299 * MIB), "what was punched is a hole");
    drop(file);

    bed.run(std::process::Command::new("cp").arg("--sparse=always").arg(&path).arg(bed.path("copy")));
    assert!(std::fs::read(bed.path("copy")).unwrap() == std::fs::read(&path).unwrap());
    bed.finish();
}
