//! Names in directories: which are possible, which are taken by the client itself (spec sections 6 and 8.1).

use std::borrow::Cow;

use shoal_format::Ino;

/// Longest name in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The name under which the root directory shows the trash.
pub(crate) const TRASH: &[u8] = b".trash";
/// Names in the root directory that clients answer themselves.
const VIRTUAL: [&[u8]; 4] = [b".control", b".accesslog", b".stats", b".config"];

/// What a name in a directory can be, before any record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameClass {
    /// A dentry may hold it.
    Ordinary,
    /// The trash root, which no dentry names.
    Trash,
    /// A virtual file of the client; no record belongs to it.
    Virtual,
    /// No dentry can hold it.
    Impossible,
}

/// Classifies `name` in `parent`.
pub(crate) fn classify(parent: Ino, name: &[u8]) -> NameClass {
    if parent == Ino::ROOT && name == TRASH {
        return NameClass::Trash;
    }
    if parent == Ino::ROOT && VIRTUAL.contains(&name) {
        return NameClass::Virtual;
    }
    let possible = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
        && name != b"."
        && name != b"..";
    if possible { NameClass::Ordinary } else { NameClass::Impossible }
}

/// A name's bytes as messages print them: control characters and bytes outside UTF-8 escaped.
pub fn show_name(name: &[u8]) -> String {
    match String::from_utf8_lossy(name) {
        Cow::Borrowed(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_reserved_in_the_root_only() {
        assert_eq!(classify(Ino::ROOT, b".trash"), NameClass::Trash);
        assert_eq!(classify(Ino::ROOT, b".stats"), NameClass::Virtual);
        assert_eq!(classify(Ino(2), b".trash"), NameClass::Ordinary);
        assert_eq!(classify(Ino(2), b".stats"), NameClass::Ordinary);
    }

    #[test]
    fn impossible_names_are_told_apart() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
            assert_eq!(classify(Ino::ROOT, name), NameClass::Impossible, "{}", show_name(name));
        }
        for name in [&b"\xff\xfe"[..], b"...", b" ", &[b'a'; 255]] {
            assert_eq!(classify(Ino::ROOT, name), NameClass::Ordinary, "{}", show_name(name));
        }
    }

    #[test]
    fn names_print_readably() {
        assert_eq!(show_name("größe".as_bytes()), "größe");
        assert_eq!(show_name(b"a\xffb"), "a\\xffb");
        assert_eq!(show_name(b"a\nb"), "a\\nb");
    }
}
