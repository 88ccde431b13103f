//! `mysql://[user[:password]@][net[(address)]]/database[?options]`, as the Go driver of JuiceFS reads it: the password stands as
//! it is, without percent codes.

use std::path::PathBuf;
use std::time::Duration;

use shoal_meta::MetaError;

use super::{DEFAULT_PREFIX, ServerAddress, decoded, invalid, is_password, options, prefix};
use crate::pool::PoolLimits;

/// Longest wait for a new connection; `timeout` in the URL changes it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SOCKET: &str = "/tmp/mysql.sock";
const PORT: u16 = 3306;

/// A MySQL or MariaDB database.
#[derive(Clone)]
pub(crate) struct MySqlAddress {
    pub(crate) server: ServerAddress,
    pub(crate) place: MySqlPlace,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
    pub(crate) tls: MySqlTls,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MySqlPlace {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// How much TLS is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MySqlTls {
    /// `tls=false`.
    Disabled,
    /// `tls=preferred`, and where nothing is said: encrypted if the server can.
    Preferred,
    /// `tls=skip-verify`: encrypted, whoever it is.
    Required,
    /// `tls=true`: encrypted, and a known authority vouches for the host name.
    Verified,
}

impl std::fmt::Debug for MySqlAddress {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MySqlAddress").field(&self.server.name).finish()
    }
}

impl MySqlAddress {
    /// Reads what follows `mysql://`.
    pub(crate) fn parse(
        rest: &str,
        password: impl Fn() -> Result<Option<String>, MetaError>,
    ) -> Result<MySqlAddress, MetaError> {
        const FORM: &str = "a MySQL URL has the form mysql://USER:PASSWORD@(HOST:3306)/DATABASE";
        // Passwords may hold any of the marks: the database begins at the last slash, the address behind the last @ before it.
        let (front, back) = rest.rsplit_once('/').ok_or_else(|| invalid(FORM))?;
        let (database, query) = back.split_once('?').unwrap_or((back, ""));
        let (credentials, place) = match front.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, front),
        };
        let (user, given) = match credentials {
            Some(text) => text.split_once(':').map_or((Some(text), None), |(user, given)| (Some(user), Some(given))),
            None => (None, None),
        };
        let at = user.map_or(String::new(), |user| format!("{user}@"));
        let name = format!("mysql://{at}{place}/{database}");
        let place = MySqlPlace::parse(place)
            .ok_or_else(|| invalid(format!("`{name}` has no address such as (HOST:3306) or unix(/PATH); {FORM}")))?;
        if database.is_empty() {
            return Err(invalid(format!("`{name}` names no database; {FORM}")));
        }
        let limits = PoolLimits { connect_timeout: CONNECT_TIMEOUT, ..PoolLimits::default() };
        let mut address = MySqlAddress {
            server: ServerAddress { name, table_prefix: DEFAULT_PREFIX.to_owned(), limits },
            place,
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            password: given.filter(|given| is_password(given)).map(str::to_owned),
            database: decoded(database, false).unwrap_or_else(|| database.to_owned()),
            tls: MySqlTls::Preferred,
        };
        for (key, value) in options(query) {
            address.set(key, &decoded(value, true).unwrap_or_else(|| value.to_owned()))?;
        }
        if address.password.is_none() {
            address.password = password()?;
        }
        Ok(address)
    }

    /// Options of the Go driver about how it decodes, and of the real client's pool, mean nothing here.
    fn set(&mut self, key: &str, value: &str) -> Result<(), MetaError> {
        let name = &self.server.name;
        let wrong = || invalid(format!("option {key} of `{name}` cannot be `{value}`"));
        match key {
            "table_prefix" => self.server.table_prefix = prefix(value).ok_or_else(wrong)?,
            "max_open_conns" => self.server.limits.open(value).ok_or_else(wrong)?,
            "timeout" => self.server.limits.connect_timeout = duration(value).ok_or_else(wrong)?,
            "tls" => {
                self.tls = match value {
                    "true" | "TRUE" | "1" => MySqlTls::Verified,
                    "false" | "FALSE" | "0" => MySqlTls::Disabled,
                    "skip-verify" => MySqlTls::Required,
                    "preferred" => MySqlTls::Preferred,
                    _ => return Err(wrong()),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

impl MySqlPlace {
    fn parse(text: &str) -> Option<MySqlPlace> {
        let (net, address) = match text.strip_suffix(')') {
            Some(open) => open.split_once('(')?,
            None if text.contains('(') || text.contains(':') => return None,
            None => (text, ""),
        };
        match net {
            "unix" => Some(MySqlPlace::Unix(PathBuf::from(if address.is_empty() { SOCKET } else { address }))),
            "" | "tcp" => {
                let address = if address.is_empty() { "127.0.0.1" } else { address };
                let (host, port) = match address.rsplit_once(':') {
                    Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
                    Some(_) => return None,
                    None => (address, PORT),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Some(MySqlPlace::Tcp { host: if host.is_empty() { "127.0.0.1" } else { host }.to_owned(), port })
            }
            _ => None,
        }
    }
}

/// A duration as Go writes it, in one unit: `500ms`, `5s`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    let unit = match &text[end..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(unit).filter(|millis| *millis > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<MySqlAddress, MetaError> {
        MySqlAddress::parse(rest, || Ok(Some("of the environment".into())))
    }

    fn tcp(host: &str, port: u16) -> MySqlPlace {
        MySqlPlace::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn juicefs_urls_parse() {
        let a = parse("user:p@s/s:w%rd?@(db.example:3307)/jfs?tls=skip-verify&table_prefix=zz&timeout=2s").unwrap();
        assert_eq!((a.user.as_deref(), a.password.as_deref()), (Some("user"), Some("p@s/s:w%rd?")));
        assert_eq!((&a.place, a.database.as_str(), a.tls), (&tcp("db.example", 3307), "jfs", MySqlTls::Required));
        assert_eq!((a.server.table_prefix.as_str(), a.server.limits.connect_timeout.as_secs()), ("jfs_zz_", 2));
        assert_eq!(a.server.name, "mysql://user@(db.example:3307)/jfs");
        assert!(!format!("{a:?}").contains("w%rd"), "{a:?}");

        let a = parse("root@unix(/run/my/s.sock)/jfs?max_open_conns=5&charset=utf8").unwrap();
        assert_eq!((a.place, a.server.limits.connections_max), (MySqlPlace::Unix("/run/my/s.sock".into()), 5));
        assert_eq!(a.password.as_deref(), Some("of the environment"));
        assert_eq!(parse("u@tcp(h)/d").unwrap().place, tcp("h", 3306));
        assert_eq!(parse("u@tcp([::1]:3308)/d").unwrap().place, tcp("::1", 3308));
        assert_eq!(parse("u@/d").unwrap().place, tcp("127.0.0.1", 3306));
        assert_eq!(parse("u@(:3309)/d").unwrap().place, tcp("127.0.0.1", 3309));
    }

    #[test]
    fn impossible_urls_are_invalid_and_keep_their_secrets() {
        for rest in [
            "u:secret@(h:3306)",
            "u:secret@(h:3306)/",
            "u:secret@h:3306/d",
            "u:secret@(h:port)/d",
            "u:secret@pipe(h)/d",
            "u:secret@(h/d",
            "u:secret@(h)/d?tls=custom",
            "u:secret@(h)/d?timeout=soon",
            "u:secret@(h)/d?table_prefix=",
            "u:secret@(h)/d?max_open_conns=many",
        ] {
            let error = parse(rest).unwrap_err();
            assert_eq!(error.kind(), shoal_types::ErrorKind::Invalid, "{rest}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
