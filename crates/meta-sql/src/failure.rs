//! What the driver's errors mean to a caller: SQLite's result codes (sqlite.org/rescode.html), one match.

use shoal_meta::MetaError;
use shoal_types::ErrorKind;

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

/// The error a caller sees for a driver's error on database `at`.
pub(crate) fn failed(at: &str, error: sqlx::Error) -> MetaError {
    let (kind, detail) = match &error {
        sqlx::Error::Database(inner) => return database(at, code_of(inner.as_ref()), inner.message()),
        sqlx::Error::Io(io) => (ErrorKind::of_io(io), io.to_string()),
        sqlx::Error::PoolTimedOut => (ErrorKind::Timeout, "no connection became free in time".to_owned()),
        sqlx::Error::PoolClosed => (ErrorKind::Cancelled, "it is closed".to_owned()),
        sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, "its connection is gone".to_owned()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => return damaged(at, &error.to_string()),
        _ => (ErrorKind::Internal, error.to_string()),
    };
    MetaError::Database { at: at.to_owned(), detail, kind }
}

/// Metadata in database `at` breaks the schema or the format.
pub(crate) fn damaged(at: &str, what: &str) -> MetaError {
    MetaError::Corrupt { what: format!("metadata database {at} is damaged: {what}") }
}

/// True if a row with the same unique key exists.
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn code_of(error: &dyn sqlx::error::DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or(code::ERROR)
}

fn database(at: &str, extended: i32, message: &str) -> MetaError {
    let primary = extended & 0xFF;
    let kind = match primary {
        code::BUSY | code::LOCKED | code::PROTOCOL => return MetaError::Contended { at: at.to_owned() },
        code::CORRUPT => return damaged(at, message),
        code::NOTADB => return damaged(at, "the file is no SQLite database"),
        code::ERROR if message.starts_with("no such table") => return MetaError::NoVolume { at: at.to_owned() },
        code::ERROR if message.starts_with("no such column") || message.contains("has no column named") => {
            let what = format!("{at} has an older schema ({message}); open it once with JuiceFS 1.4 to renew it");
            return MetaError::Invalid { what };
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
            let error = database("sqlite3://a.db", code, message);
            assert_eq!(error.kind(), kind, "{code} {message}");
            assert_eq!(error.to_string().matches("a.db").count(), 1, "{error}");
        }
    }

    #[test]
    fn driver_errors_are_sentences() {
        let error = failed("sqlite3://a.db", sqlx::Error::PoolTimedOut);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.to_string(), "metadata database sqlite3://a.db failed: no connection became free in time");
    }
}
