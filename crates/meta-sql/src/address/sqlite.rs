//! `sqlite3://PATH`: option names are those of the Go driver that JuiceFS uses.

use std::path::PathBuf;
use std::time::Duration;

use shoal_meta::MetaError;

use super::{DEFAULT_PREFIX, options, prefix};

/// How long SQLite itself waits for a lock, as the real client does.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest such wait a URL may ask for.
const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A SQLite database and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqliteAddress {
    /// The database file; relative to the working directory if the URL says so.
    pub(crate) path: PathBuf,
    /// The URL without options, for messages.
    pub(crate) name: String,
    /// What every table's name begins with.
    pub(crate) table_prefix: String,
    /// How long SQLite waits for a lock.
    pub(crate) busy_timeout: Duration,
    /// Journal mode a new database gets.
    pub(crate) journal: Journal,
}

/// Journal modes of SQLite that make sense for a shared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    Wal,
    Delete,
    Truncate,
    Persist,
}

impl SqliteAddress {
    /// Reads what follows `sqlite3://`. `Invalid` names what is wrong.
    pub(crate) fn parse(rest: &str) -> Result<SqliteAddress, MetaError> {
        let invalid = |what: String| MetaError::Invalid { what };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path.starts_with("file:") || path.starts_with(":memory:") || path.contains('\0') {
            return Err(invalid(format!("`sqlite3://{path}` names no database file")));
        }
        let mut address = SqliteAddress {
            path: PathBuf::from(path),
            name: format!("sqlite3://{path}"),
            table_prefix: DEFAULT_PREFIX.to_owned(),
            busy_timeout: BUSY_TIMEOUT,
            journal: Journal::Wal,
        };
        for (key, value) in options(query) {
            address.set(key, value)?;
        }
        Ok(address)
    }

    /// Options that change how many connections there are or how the real client's driver caches mean nothing here.
    fn set(&mut self, key: &str, value: &str) -> Result<(), MetaError> {
        let invalid = || MetaError::Invalid { what: format!("option {key} of `{}` cannot be `{value}`", self.name) };
        match key {
            "table_prefix" => self.table_prefix = prefix(value).ok_or_else(invalid)?,
            "_busy_timeout" | "_timeout" => {
                let wait = Duration::from_millis(value.parse().map_err(|_| invalid())?);
                if wait > BUSY_TIMEOUT_MAX {
                    return Err(invalid());
                }
                self.busy_timeout = wait;
            }
            "_journal" | "_journal_mode" => {
                self.journal = match value.to_ascii_uppercase().as_str() {
                    "WAL" => Journal::Wal,
                    "DELETE" => Journal::Delete,
                    "TRUNCATE" => Journal::Truncate,
                    "PERSIST" => Journal::Persist,
                    _ => return Err(invalid()),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn juicefs_urls_parse() {
        let address = SqliteAddress::parse("rel/a.db").unwrap();
        assert_eq!((address.path, address.table_prefix.as_str()), (PathBuf::from("rel/a.db"), "jfs_"));
        let address =
            SqliteAddress::parse("/abs/p%20q.db?table_prefix=zz&_journal=delete&cache=shared&_timeout=9").unwrap();
        // The real client takes the path as it is: no percent decoding.
        assert_eq!(address.path, PathBuf::from("/abs/p%20q.db"));
        assert_eq!(address.name, "sqlite3:///abs/p%20q.db");
        assert_eq!(address.table_prefix, "jfs_zz_");
        assert_eq!(address.journal, Journal::Delete);
        assert_eq!(address.busy_timeout, Duration::from_millis(9));
    }

    #[test]
    fn impossible_urls_are_invalid() {
        for url in [
            "",
            "?table_prefix=a",
            ":memory:",
            "a.db?table_prefix=x;drop",
            "a.db?table_prefix=",
            "a.db?_timeout=soon",
            "a.db?_journal=off",
        ] {
            let error = SqliteAddress::parse(url).unwrap_err();
            assert_eq!(error.kind(), shoal_types::ErrorKind::Invalid, "{url}");
        }
    }
}
