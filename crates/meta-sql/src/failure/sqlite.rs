//! SQLite's result codes (sqlite.org/rescode.html), one match.

use rusqlite::ffi;
use shoal_meta::MetaError;
use shoal_types::ErrorKind;

use super::{damaged, old_schema};

/// Primary result codes.
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const INTERRUPT: i32 = 9;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const PROTOCOL: i32 = 15;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const AUTH: i32 = 23;
    pub(super) const NOTADB: i32 = 26;
}

/// What SQLite's error on database `at` means.
pub(crate) fn refused(at: &str, error: &rusqlite::Error) -> MetaError {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let message = message.clone().unwrap_or_else(|| code.to_string());
            meaning(at, code.extended_code, &message)
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => meaning(at, error.extended_code, msg),
        error => meaning(at, code::ERROR, &error.to_string()),
    }
}

/// True if somebody else has a lock that this statement needs; it did nothing.
pub(crate) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(code, _) if code.extended_code & 0xFF == code::BUSY)
}

/// True if a row with the same unique key exists.
pub(crate) fn is_unique_violation(error: &rusqlite::Error) -> bool {
    let unique = [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY];
    matches!(error, rusqlite::Error::SqliteFailure(code, _) if unique.contains(&code.extended_code))
}

fn meaning(at: &str, extended: i32, message: &str) -> MetaError {
    let primary = extended & 0xFF;
    let kind = match primary {
        code::BUSY | code::LOCKED | code::PROTOCOL => return MetaError::Contended { at: at.to_owned() },
        code::CORRUPT => return damaged(at, message),
        code::NOTADB => return damaged(at, "the file is no SQLite database"),
        code::ERROR if message.starts_with("no such table") => return MetaError::NoVolume { at: at.to_owned() },
        code::ERROR if message.starts_with("no such column") || message.contains("has no column named") => {
            return old_schema(at, message);
        }
        code::PERM | code::READONLY | code::AUTH => ErrorKind::Denied,
        code::FULL => ErrorKind::NoSpace,
        code::CONSTRAINT => ErrorKind::Conflict,
        code::INTERRUPT => ErrorKind::Cancelled,
        code::IOERR => ErrorKind::Unavailable,
        code::CANTOPEN => {
            let detail = format!("{message}; it and its -wal and -shm files beside it must be accessible");
            return MetaError::Database { at: at.to_owned(), detail, kind: ErrorKind::Unavailable };
        }
        _ => ErrorKind::Internal,
    };
    MetaError::Database { at: at.to_owned(), detail: message.to_owned(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_code_has_its_kind() {
        for (code, message, kind) in [
            (5, "database is locked", ErrorKind::Unavailable),
            (517, "database is locked", ErrorKind::Unavailable),
            (6, "database table is locked", ErrorKind::Unavailable),
            (11, "database disk image is malformed", ErrorKind::Corrupt),
            (26, "file is not a database", ErrorKind::Corrupt),
            (1, "no such table: jfs_node", ErrorKind::NotFound),
            (1, "no such column: tier_id", ErrorKind::Invalid),
            (1, "table jfs_node has no column named tier_id", ErrorKind::Invalid),
            (1, "near \"x\": syntax error", ErrorKind::Internal),
            (8, "attempt to write a readonly database", ErrorKind::Denied),
            (13, "database or disk is full", ErrorKind::NoSpace),
            (14, "unable to open database file", ErrorKind::Unavailable),
            (266, "disk I/O error", ErrorKind::Unavailable),
            (2067, "UNIQUE constraint failed", ErrorKind::Conflict),
        ] {
            let error = meaning("sqlite3://a.db", code, message);
            assert_eq!(error.kind(), kind, "{code} {message}");
            assert_eq!(error.to_string().matches("a.db").count(), 1, "{error}");
        }
    }
}
