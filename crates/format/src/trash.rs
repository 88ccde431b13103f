//! Names in the trash: its hourly directories, and what was removed (spec section 15).

use bytes::Bytes;

use crate::attr::{Ino, Time};
use crate::calendar::Date;

/// Longest name in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Name of the hourly trash directory for what is removed at `time`: its UTC hour, as `2026-11-22-13`.
pub fn trash_hour(time: Time) -> String {
    let Date { year, month, day, hour, .. } = Date::of(time.secs);
    format!("{year:04}-{month:02}-{day:02}-{hour:02}")
}

/// Seconds since 1970 at which the hour of an hourly directory began; `None` for any other name.
pub fn parse_trash_hour(name: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(name).ok()?;
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        let all_digits = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| part.parse::<u32>().ok())?
    };
    let (year, month, day, hour) = (number(4)?, number(2)?, number(2)?, number(2)?);
    if parts.next().is_some() {
        return None;
    }
    Date { year: i64::from(year), month, day, hour, minute: 0, second: 0 }.secs()
}

/// Name in an hourly directory of what was called `name` in `parent`, cut to what a name can hold.
pub fn trash_entry(parent: Ino, ino: Ino, name: &[u8]) -> Bytes {
    let mut entry = format!("{parent}-{ino}-").into_bytes();
    entry.extend_from_slice(name);
    entry.truncate(NAME_BYTES_MAX);
    Bytes::from(entry)
}

/// What a name in an hourly directory says: directory, inode and name before the removal, which is cut if it was long.
pub fn parse_trash_entry(entry: &[u8]) -> Option<(Ino, Ino, &[u8])> {
    let mut parts = entry.splitn(3, |byte| *byte == b'-');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse().ok().map(Ino);
    let (parent, ino) = (number()?, number()?);
    Some((parent, ino, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_named_as_real_clients_name_them() {
        assert_eq!(trash_hour(Time { secs: 1_795_353_421, nanos: 0 }), "2026-11-22-13");
        assert_eq!(trash_hour(Time { secs: 0, nanos: 0 }), "1970-01-01-00");
        assert_eq!(parse_trash_hour(b"2026-11-22-13"), Some(1_795_353_421 - 17 * 60 - 1));
        for other in [&b"2026-11-22"[..], b"2026-11-22-13-1", b"2026-13-22-13", b"2026-1-22-13", b"x", b"", b"\xff"] {
            assert_eq!(parse_trash_hour(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn entries_say_where_they_were() {
        assert_eq!(trash_entry(Ino(1), Ino(5), b"del"), "1-5-del");
        assert_eq!(parse_trash_entry(b"1-5-del"), Some((Ino(1), Ino(5), &b"del"[..])));
        assert_eq!(parse_trash_entry(b"1-5-a-b-\xff"), Some((Ino(1), Ino(5), &b"a-b-\xff"[..])));
        for other in [&b"1-5"[..], b"a-5-x", b"1--x", b""] {
            assert_eq!(parse_trash_entry(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn long_names_are_cut_at_255_bytes() {
        let entry = trash_entry(Ino(17), Ino(1234), &[b'x'; 255]);
        assert_eq!(entry.len(), 255);
        assert!(entry.starts_with(b"17-1234-xxx"));
        assert_eq!(parse_trash_entry(&entry).map(|(_, _, name)| name.len()), Some(255 - 8));
    }
}
