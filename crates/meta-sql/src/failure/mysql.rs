//! Error numbers of MySQL and MariaDB (their manuals' error references), one match.

use shoal_meta::MetaError;
use shoal_types::ErrorKind;
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

use super::{CONNECTIONS_ADVICE, PASSWORD_ADVICE, damaged, old_schema};

/// What the server's error on database `at` means.
pub(crate) fn refused(at: &str, error: &dyn DatabaseError) -> MetaError {
    meaning(at, number(error), error.message())
}

/// The server's number of an error; 0 if it is none of this server's.
fn number(error: &dyn DatabaseError) -> u16 {
    error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number)
}

/// True if the connection that reported this error is of no more use: the server stops or ended it.
pub(crate) fn ends_connection(error: &dyn DatabaseError) -> bool {
    ends(number(error))
}

/// True if a statement of a script found no row where it had to: a number is out of range then.
pub(crate) fn found_none(error: &dyn DatabaseError) -> bool {
    number(error) == 1690
}

fn ends(number: u16) -> bool {
    matches!(number, 1053 | 1152..=1161 | 1927 | 4031)
}

fn meaning(at: &str, number: u16, message: &str) -> MetaError {
    let (kind, advice) = match number {
        1020 | 1205 | 1213 | 3572 => return MetaError::Contended { at: at.to_owned() },
        1146 => return MetaError::NoVolume { at: at.to_owned() },
        1054 => return old_schema(at, message),
        1194 | 1195 => return damaged(at, message),
        1049 => (ErrorKind::NotFound, "; create it with CREATE DATABASE, or name another in the URL"),
        1045 | 1698 => (ErrorKind::Denied, PASSWORD_ADVICE),
        1044 | 1142 | 1143 | 1227 => (ErrorKind::Denied, "; grant the user of the URL this database"),
        1290 | 1792 | 1836 => (ErrorKind::Denied, "; the URL names a replica or a read-only database"),
        1040 | 1203 | 1226 => (ErrorKind::Unavailable, CONNECTIONS_ADVICE),
        1461 => (ErrorKind::Unavailable, "; raise max_prepared_stmt_count of the server"),
        // The last: a value of more than its column's 65,535 bytes.
        1021 | 1114 | 1406 => (ErrorKind::NoSpace, ""),
        1969 | 3024 => (ErrorKind::Timeout, ""),
        1317 => (ErrorKind::Cancelled, ""),
        1062 => (ErrorKind::Conflict, ""),
        1264 | 1300 | 1366 => (ErrorKind::Invalid, ""),
        number if ends(number) => (ErrorKind::Unavailable, ""),
        _ => (ErrorKind::Internal, ""),
    };
    MetaError::Database { at: at.to_owned(), detail: format!("{message}{advice}"), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_kind() {
        for (number, message, kind) in [
            (1213, "Deadlock found", ErrorKind::Unavailable),
            (1205, "Lock wait timeout exceeded", ErrorKind::Unavailable),
            (1146, "Table 'd.jfs_node' doesn't exist", ErrorKind::NotFound),
            (1054, "Unknown column 'n.tier_id'", ErrorKind::Invalid),
            (1194, "Table is marked as crashed", ErrorKind::Corrupt),
            (1049, "Unknown database 'd'", ErrorKind::NotFound),
            (1045, "Access denied for user", ErrorKind::Denied),
            (1142, "INSERT command denied", ErrorKind::Denied),
            (1290, "The server is running with --read-only", ErrorKind::Denied),
            (1040, "Too many connections", ErrorKind::Unavailable),
            (1461, "Can't create more than max_prepared_stmt_count statements", ErrorKind::Unavailable),
            (1114, "The table is full", ErrorKind::NoSpace),
            (1927, "Connection was killed", ErrorKind::Unavailable),
            (1053, "Server shutdown in progress", ErrorKind::Unavailable),
            (1969, "max_statement_time exceeded", ErrorKind::Timeout),
            (1317, "Query execution was interrupted", ErrorKind::Cancelled),
            (1062, "Duplicate entry", ErrorKind::Conflict),
            (1406, "Data too long for column", ErrorKind::NoSpace),
            (1064, "You have an error in your SQL syntax", ErrorKind::Internal),
        ] {
            let error = meaning("mysql://(h:1)/d", number, message);
            assert_eq!(error.kind(), kind, "{number} {message}");
            assert_eq!(error.to_string().matches("mysql://(h:1)/d").count(), 1, "{error}");
        }
        assert!(meaning("a", 1040, "full").to_string().contains("max_open_conns"));
        assert!(meaning("a", 1045, "no").to_string().contains("META_PASSWORD"));
    }
}
