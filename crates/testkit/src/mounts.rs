//! Mounts below a directory, so that cleaning up never deletes through one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Mount points at or below `dir`, deepest first. Format: proc_pid_mountinfo(5), field 5, octal escapes.
pub(crate) fn below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found = parse(&table);
    found.retain(|point| point.starts_with(dir));
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Detaches every mount at or below `dir`, even one whose daemon was killed; false if one stays.
pub(crate) fn detach_below(dir: &Path) -> bool {
    for point in below(dir) {
        let quietly = |program: &str, flag: &str| {
            let mut command = Command::new(program);
            command.arg(flag).arg(&point).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let _ = quietly("umount", "-l") || quietly("fusermount3", "-uz");
    }
    below(dir).is_empty()
}

fn parse(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(|field| PathBuf::from(OsString::from_vec(unescape(field)))).collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match digits {
            Some(digits) => {
                plain.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = b"36 35 98:0 / / rw - ext4 /dev/vda rw\n37 36 0:40 / /tmp/a\\040b\\134c rw - fuse.x x rw\n";
        assert_eq!(parse(table), [PathBuf::from("/"), PathBuf::from("/tmp/a b\\c")]);
    }

    #[test]
    fn the_root_mount_is_below_the_root_and_nothing_below_a_plain_directory() {
        assert!(below(Path::new("/")).contains(&PathBuf::from("/")));
        assert!(below(Path::new("/no/such/place")).is_empty());
        assert!(detach_below(Path::new("/no/such/place")));
    }
}
