//! What the driver's errors mean to a caller; what a database itself says is judged in a module for each.

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use shoal_meta::MetaError;
use shoal_types::ErrorKind;
use sqlx::error::DatabaseError;

use crate::meaning::Meaning;

/// What to do about a refused user.
const PASSWORD_ADVICE: &str =
    "; check the user and the password: in the URL, in META_PASSWORD or in the file META_PASSWORD_FILE names";
/// What to do about a server that takes no more connections.
const CONNECTIONS_ADVICE: &str =
    "; raise its limit of connections, or lower that of each client with max_open_conns in the URL";

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What a server, or the way to it, said.
    Server(sqlx::Error),
    /// What SQLite said.
    Sqlite(rusqlite::Error),
    /// A column of the result holds something else than the schema says.
    Column(String),
    /// No column can hold a value: no statement was sent.
    Value(String),
    /// A write did not do what it was for: it found no row, or what the database said.
    Write(Meaning, Option<Box<Failure>>),
    /// No connection became free in time.
    Busy,
    /// The database was closed.
    Closed,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        match error {
            sqlx::Error::PoolTimedOut => Failure::Busy,
            sqlx::Error::PoolClosed => Failure::Closed,
            error => Failure::Server(error),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Sqlite(error)
    }
}

impl Failure {
    /// True if a row with the same unique key exists.
    pub(crate) fn is_unique_violation(&self) -> bool {
        match self {
            Failure::Server(error) => error.as_database_error().is_some_and(DatabaseError::is_unique_violation),
            Failure::Sqlite(error) => sqlite::is_unique_violation(error),
            _ => false,
        }
    }

    /// The values of the unique key that a row already has, where the database says them: see [`postgres::taken_key`].
    pub(crate) fn taken_key(&self) -> Option<&str> {
        match self {
            Failure::Server(error) => postgres::taken_key(error.as_database_error()?),
            _ => None,
        }
    }
}

/// The error a caller sees for a failure on database `at`; `refused` judges what a server said itself.
pub(crate) fn failed(at: &str, failure: Failure, refused: fn(&str, &dyn DatabaseError) -> MetaError) -> MetaError {
    let (kind, detail) = match failure {
        Failure::Server(error) => return server_failed(at, error, refused),
        Failure::Sqlite(error) => return sqlite::refused(at, &error),
        Failure::Column(what) => return damaged(at, &what),
        Failure::Value(what) => (ErrorKind::Internal, what),
        Failure::Write(meaning, None) => return meaning.not_found(at),
        Failure::Write(meaning, Some(cause)) => {
            let taken = meaning.taken().filter(|_| cause.is_unique_violation());
            return taken.unwrap_or_else(|| failed(at, *cause, refused));
        }
        Failure::Busy => (ErrorKind::Timeout, format!("no connection became free in time{POOL_ADVICE}")),
        Failure::Closed => (ErrorKind::Cancelled, "it is closed".to_owned()),
    };
    MetaError::Database { at: at.to_owned(), detail, kind }
}

fn server_failed(at: &str, error: sqlx::Error, refused: fn(&str, &dyn DatabaseError) -> MetaError) -> MetaError {
    let (kind, detail) = match &error {
        sqlx::Error::Database(inner) => return refused(at, inner.as_ref()),
        sqlx::Error::Io(io) => (of_connection(io), io.to_string()),
        sqlx::Error::Protocol(what) => (ErrorKind::Unavailable, what.clone()),
        sqlx::Error::Tls(error) => (ErrorKind::Denied, format!("TLS: {error}{TLS_ADVICE}")),
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

/// What to do about a full pool.
const POOL_ADVICE: &str = "; raise max_open_conns in the URL if the server has more to give";
/// What to do about a server whose certificate is refused, or that speaks no TLS.
const TLS_ADVICE: &str = "; see sslmode and sslrootcert (postgres), tls (mysql) in the URL";

/// A server that cannot be reached, whatever the system calls it.
fn of_connection(error: &std::io::Error) -> ErrorKind {
    match ErrorKind::of_io(error) {
        ErrorKind::Timeout => ErrorKind::Timeout,
        ErrorKind::Denied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    }
}

/// Tables of database `at` lack a column, as `message` says.
fn old_schema(at: &str, message: &str) -> MetaError {
    MetaError::Invalid {
        what: format!("{at} has an older schema ({message}); open it once with JuiceFS 1.4 to renew it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_errors_are_sentences() {
        let error = failed("sqlite3://a.db", Failure::Busy, postgres::refused);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(
            error.to_string(),
            "metadata database sqlite3://a.db failed: no connection became free in time; \
             raise max_open_conns in the URL if the server has more to give"
        );
    }
}
