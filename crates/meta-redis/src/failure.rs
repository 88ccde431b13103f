//! What the client's and the server's errors mean to a caller.

use redis::{ErrorKind as RedisKind, RedisError};
use shoal_meta::MetaError;
use shoal_types::ErrorKind;

/// What to do about a refused user.
const PASSWORD_ADVICE: &str =
    "; check the user and the password: in the URL, in META_PASSWORD or in the file META_PASSWORD_FILE names";
/// What to do about a full server.
const MEMORY_ADVICE: &str = "; raise its maxmemory";
/// What to do about a server whose certificate is refused, or that speaks no TLS.
const TLS_ADVICE: &str = "; see tls-ca-cert-file, tls-cert-file, tls-key-file and tls-server-name in the URL";

/// What a failed request leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The server refused it, and the connection goes on.
    Refused,
    /// The server did not do it and may soon: it loads its data, runs a long script, or its cluster is being rearranged.
    NotNow,
    /// This server did not do it and never will; another may be the right one by now, or this one after a new greeting.
    Elsewhere,
    /// The connection is of no more use; what was asked may have been done or not.
    Lost,
}

/// The word a server's answer begins with, and the rest; of several commands, those of the first that failed.
fn reply(error: &RedisError) -> Option<(String, String)> {
    let answers = error.clone().into_server_errors()?;
    let (_, first) = answers.first()?;
    Some((first.code().to_owned(), first.details().unwrap_or_default().to_owned()))
}

/// What `error` leaves behind.
pub(crate) fn after(error: &RedisError) -> After {
    match reply(error).as_ref().map(|(code, _)| code.as_str()) {
        Some("READONLY" | "MOVED" | "NOSCRIPT" | "MASTERDOWN") => return After::Elsewhere,
        Some("LOADING" | "BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "ASK") => return After::NotNow,
        Some(_) => return After::Refused,
        None => {}
    }
    match error.kind() {
        RedisKind::Io | RedisKind::Parse => After::Lost,
        _ => After::Refused,
    }
}

/// The error a caller sees for any error of database `at`.
pub(crate) fn failed(at: &str, error: &RedisError) -> MetaError {
    let text = error.to_string();
    let (kind, detail) = match reply(error) {
        Some((code, _)) if matches!(code.as_str(), "TRYAGAIN" | "ASK") => {
            return MetaError::Contended { at: at.to_owned() };
        }
        Some((code, details)) => {
            let (kind, advice) = of_code(&code, &details);
            (kind, format!("{code} {details}{advice}"))
        }
        None => match error.kind() {
            RedisKind::Server(_) => {
                let (kind, advice) = of_code("ERR", &text);
                (kind, format!("{text}{advice}"))
            }
            RedisKind::AuthenticationFailed => (ErrorKind::Denied, format!("{text}{PASSWORD_ADVICE}")),
            RedisKind::UnexpectedReturnType | RedisKind::Parse => return damaged(at, &text),
            _ if error.is_timeout() => (ErrorKind::Timeout, text),
            _ if text.contains("certificate") || text.contains("TLS") => {
                (ErrorKind::Denied, format!("{text}{TLS_ADVICE}"))
            }
            _ if error.is_io_error() => (ErrorKind::Unavailable, text),
            _ => (ErrorKind::Internal, text),
        },
    };
    MetaError::Database { at: at.to_owned(), detail, kind }
}

fn of_code(code: &str, text: &str) -> (ErrorKind, &'static str) {
    match code {
        "WRONGPASS" | "NOAUTH" | "NOPERM" => (ErrorKind::Denied, PASSWORD_ADVICE),
        "OOM" => (ErrorKind::NoSpace, MEMORY_ADVICE),
        "READONLY" => (ErrorKind::Unavailable, "; the server is a replica: name its master"),
        "WRONGTYPE" => (ErrorKind::Corrupt, ""),
        "ERR" if text.contains("invalid password") || text.contains("AUTH") => (ErrorKind::Denied, PASSWORD_ADVICE),
        "ERR" if text.contains("DB index is out of range") => (ErrorKind::Invalid, "; the URL names the database"),
        "ERR" if text.contains("max number of clients") => (ErrorKind::Unavailable, "; raise its maxclients"),
        "ERR" => (ErrorKind::Internal, ""),
        // LOADING, BUSY, CLUSTERDOWN, MISCONF, NOREPLICAS and what there may be more: it says no for now.
        _ => (ErrorKind::Unavailable, ""),
    }
}

/// The server did not take a connection or answer it in time.
pub(crate) fn unreachable(at: &str, detail: impl Into<String>, kind: ErrorKind) -> MetaError {
    MetaError::Database { at: at.to_owned(), detail: detail.into(), kind }
}

/// The outcome of a commit is not known.
pub(crate) fn unknown_outcome(at: &str, error: &RedisError) -> MetaError {
    let detail = "the connection was lost while it committed, so the change may have been made or not".to_owned();
    let kind = if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Unavailable };
    MetaError::Database { at: at.to_owned(), detail, kind }
}

/// Metadata in database `at` breaks the schema or the format.
pub(crate) fn damaged(at: &str, what: &str) -> MetaError {
    MetaError::Corrupt { what: format!("metadata database {at} is damaged: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as a server says it.
    fn said(line: &str) -> RedisError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("a reply") {
            redis::Value::ServerError(error) => error.into(),
            other => panic!("{other:?} is no error"),
        }
    }

    #[test]
    fn every_reply_has_its_kind() {
        for (line, kind, left) in [
            ("WRONGPASS invalid username-password pair", ErrorKind::Denied, After::Refused),
            ("NOAUTH Authentication required.", ErrorKind::Denied, After::Refused),
            ("NOPERM this user has no permissions", ErrorKind::Denied, After::Refused),
            ("ERR invalid password", ErrorKind::Denied, After::Refused),
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::NoSpace, After::Refused),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable, After::Elsewhere),
            ("MOVED 1 127.0.0.1:7", ErrorKind::Unavailable, After::Elsewhere),
            ("NOSCRIPT No matching script.", ErrorKind::Unavailable, After::Elsewhere),
            ("TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::Unavailable, After::NotNow),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable, After::NotNow),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable, After::NotNow),
            ("MISCONF Redis is configured to save RDB snapshots", ErrorKind::Unavailable, After::Refused),
            ("WRONGTYPE Operation against a key", ErrorKind::Corrupt, After::Refused),
            ("ERR DB index is out of range", ErrorKind::Invalid, After::Refused),
            ("ERR max number of clients reached", ErrorKind::Unavailable, After::Refused),
            ("ERR unknown command", ErrorKind::Internal, After::Refused),
        ] {
            let error = said(line);
            assert_eq!(after(&error), left, "{line}");
            let error = failed("redis://h/1", &error);
            assert_eq!(error.kind(), kind, "{line}: {error}");
            assert_eq!(error.to_string().matches("redis://h/1").count(), 1, "{error}");
        }
    }

    #[test]
    fn broken_connections_are_lost_and_silence_is_a_timeout() {
        let io = |kind| RedisError::from(std::io::Error::from(kind));
        for (kind, meaning) in [
            (std::io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
            (std::io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable),
            (std::io::ErrorKind::TimedOut, ErrorKind::Timeout),
        ] {
            assert_eq!(after(&io(kind)), After::Lost);
            assert_eq!(failed("a", &io(kind)).kind(), meaning);
            assert!(unknown_outcome("a", &io(kind)).to_string().contains("may have been made or not"));
        }
    }
}
