//! PostgreSQL's SQLSTATEs (its manual, appendix A), one match.

use shoal_meta::MetaError;
use shoal_types::ErrorKind;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::{CONNECTIONS_ADVICE, PASSWORD_ADVICE, damaged, old_schema};

/// What PostgreSQL's error on database `at` means.
pub(crate) fn refused(at: &str, error: &dyn DatabaseError) -> MetaError {
    meaning(at, error.code().as_deref().unwrap_or(""), error.message())
}

/// True if the connection that reported this error is of no more use.
pub(crate) fn ends_connection(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|state| ends(&state))
}

/// True if a statement of a script found no row where it had to: it divides by their number.
pub(crate) fn found_none(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|state| state == "22012")
}

/// The values of the unique key that a row already has, as the server writes them: `1, \x61`.
pub(crate) fn taken_key(error: &dyn DatabaseError) -> Option<&str> {
    let detail = error.try_downcast_ref::<PgDatabaseError>()?.detail()?;
    let (_, values) = detail.split_once(")=(")?;
    values.rsplit_once(')').map(|(values, _)| values)
}

fn ends(state: &str) -> bool {
    matches!(state, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") || state.starts_with("08")
}

fn meaning(at: &str, state: &str, message: &str) -> MetaError {
    let (kind, advice) = match state {
        // The last: a statement after one that failed; the transaction is repeated as a whole.
        "40001" | "40P01" | "55P03" | "25P02" => return MetaError::Contended { at: at.to_owned() },
        "42P01" => return MetaError::NoVolume { at: at.to_owned() },
        "42703" => return old_schema(at, message),
        "XX001" | "XX002" => return damaged(at, message),
        "3D000" => (ErrorKind::NotFound, "; create it with CREATE DATABASE, or name another in the URL"),
        "3F000" => (ErrorKind::NotFound, "; create it with CREATE SCHEMA, or name another with search_path in the URL"),
        "28P01" | "28000" => (ErrorKind::Denied, PASSWORD_ADVICE),
        "42501" => (ErrorKind::Denied, "; grant the user of the URL its tables and the right to create in the schema"),
        "25006" => (ErrorKind::Denied, "; the URL names a standby or a read-only database"),
        "53300" => (ErrorKind::Unavailable, CONNECTIONS_ADVICE),
        "53100" => (ErrorKind::NoSpace, ""),
        "57014" => (ErrorKind::Timeout, ""),
        "23505" => (ErrorKind::Conflict, ""),
        "22001" | "22003" | "22021" | "42804" | "42883" => (ErrorKind::Invalid, ""),
        state if ends(state) || state.starts_with("53") => (ErrorKind::Unavailable, ""),
        _ => (ErrorKind::Internal, ""),
    };
    MetaError::Database { at: at.to_owned(), detail: format!("{message}{advice}"), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_kind() {
        for (state, message, kind) in [
            ("40001", "could not serialize access", ErrorKind::Unavailable),
            ("40P01", "deadlock detected", ErrorKind::Unavailable),
            ("25P02", "current transaction is aborted", ErrorKind::Unavailable),
            ("42P01", "relation \"jfs_node\" does not exist", ErrorKind::NotFound),
            ("42703", "column n.tier_id does not exist", ErrorKind::Invalid),
            ("XX001", "invalid page in block 7", ErrorKind::Corrupt),
            ("3D000", "database \"x\" does not exist", ErrorKind::NotFound),
            ("28P01", "password authentication failed for user \"u\"", ErrorKind::Denied),
            ("42501", "permission denied for table jfs_node", ErrorKind::Denied),
            ("25006", "cannot execute INSERT in a read-only transaction", ErrorKind::Denied),
            ("53300", "sorry, too many clients already", ErrorKind::Unavailable),
            ("53200", "out of memory", ErrorKind::Unavailable),
            ("53100", "could not extend file", ErrorKind::NoSpace),
            ("57P01", "terminating connection", ErrorKind::Unavailable),
            ("08006", "connection failure", ErrorKind::Unavailable),
            ("57014", "canceling statement", ErrorKind::Timeout),
            ("23505", "duplicate key value", ErrorKind::Conflict),
            ("22003", "integer out of range", ErrorKind::Invalid),
            ("42601", "syntax error", ErrorKind::Internal),
        ] {
            let error = meaning("postgres://h/d", state, message);
            assert_eq!(error.kind(), kind, "{state} {message}");
            assert_eq!(error.to_string().matches("postgres://h/d").count(), 1, "{error}");
        }
        assert!(meaning("a", "53300", "full").to_string().contains("max_open_conns"));
        assert!(meaning("a", "28P01", "no").to_string().contains("META_PASSWORD"));
    }
}
