//! Metadata URLs as JuiceFS spells them (spec section 22), one module for each database.

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use shoal_meta::MetaError;

use self::mysql::MySqlAddress;
use self::postgres::PgAddress;
use self::sqlite::SqliteAddress;
use crate::SCHEMES;
use crate::pool::PoolLimits;

/// What every table's name begins with unless the URL says otherwise.
const DEFAULT_PREFIX: &str = "jfs_";

/// A database and how to talk to it.
#[derive(Debug)]
pub(crate) enum Address {
    Sqlite(SqliteAddress),
    Postgres(Box<PgAddress>),
    MySql(Box<MySqlAddress>),
}

/// What the URLs of both servers say beside the address.
#[derive(Debug, Clone)]
pub(crate) struct ServerAddress {
    /// The URL without password and options, for messages.
    pub(crate) name: String,
    /// What every table's name begins with.
    pub(crate) table_prefix: String,
    /// Of the pool.
    pub(crate) limits: PoolLimits,
}

impl Address {
    /// Reads a URL; `password` gives the one to use where the URL has none. `Invalid` names what is wrong and what would be
    /// right, and no password.
    pub(crate) fn parse(
        url: &str,
        password: impl Fn() -> Result<Option<String>, MetaError>,
    ) -> Result<Address, MetaError> {
        let supported = SCHEMES.join(", ");
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid(format!("a metadata URL has the form scheme://address, with one of: {supported}")));
        };
        match scheme {
            "sqlite3" => SqliteAddress::parse(rest).map(Address::Sqlite),
            "postgres" => PgAddress::parse(rest, password).map(|address| Address::Postgres(Box::new(address))),
            "mysql" => MySqlAddress::parse(rest, password).map(|address| Address::MySql(Box::new(address))),
            _ => Err(invalid(format!("metadata engine `{scheme}` is not supported; supported: {supported}"))),
        }
    }
}

fn invalid(what: impl Into<String>) -> MetaError {
    MetaError::Invalid { what: what.into() }
}

/// False for what stands where no password does: nothing, or the stars of a URL that was shown to somebody.
fn is_password(text: &str) -> bool {
    !text.is_empty() && text != "****"
}

/// Options after the `?`, as they stand.
fn options(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let set = query.split('&').filter(|option| !option.is_empty());
    set.map(|option| option.split_once('=').unwrap_or((option, "")))
}

/// The table prefix for `table_prefix=value`.
fn prefix(value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let good = !value.is_empty() && value.len() <= 32 && value.chars().all(plain);
    good.then(|| format!("{DEFAULT_PREFIX}{value}_"))
}

/// `%41` becomes `A`; in an option `+` is a space. `None` for what is no UTF-8 then.
fn decoded(text: &str, in_query: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            _ if bytes[at] == b'+' && in_query => out.push(b' '),
            _ => out.push(bytes[at]),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, MetaError> {
        Address::parse(url, || Ok(None))
    }

    #[test]
    fn other_engines_are_refused_with_the_list_of_ours_and_without_secrets() {
        let text = parse("redis://:secret@host/1").unwrap_err().to_string();
        assert_eq!(text, "metadata engine `redis` is not supported; supported: sqlite3, postgres, mysql");
        assert!(parse("/var/a.db").unwrap_err().to_string().contains("sqlite3"));
    }

    #[test]
    fn percent_codes_are_undone() {
        assert_eq!(decoded("a%40b+c%2", false).unwrap(), "a@b+c%2");
        assert_eq!(decoded("a+b%2Bc", true).unwrap(), "a b+c");
        assert_eq!(decoded("%ff", false), None);
    }
}
