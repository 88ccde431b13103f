//! `postgres://[user[:password]@][host][:port]/database[?options]`, as libpq and the Go driver of JuiceFS read it.

use std::path::PathBuf;
use std::time::Duration;

use shoal_meta::MetaError;

use super::{DEFAULT_PREFIX, ServerAddress, decoded, invalid, is_password, options, prefix};
use crate::pool::PoolLimits;

/// Longest wait for a new connection; `connect_timeout` in the URL changes it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A PostgreSQL database.
#[derive(Clone)]
pub(crate) struct PgAddress {
    pub(crate) server: ServerAddress,
    /// A host name or address, or the directory of a Unix socket.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) tls: PgTls,
    pub(crate) root_cert: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Settings the server gets for each connection: `search_path` and whatever else the URL names.
    pub(crate) settings: Vec<(String, String)>,
}

/// How much TLS is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PgTls {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl std::fmt::Debug for PgAddress {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PgAddress").field(&self.server.name).finish()
    }
}

impl PgAddress {
    /// Reads what follows `postgres://`.
    pub(crate) fn parse(
        rest: &str,
        password: impl Fn() -> Result<Option<String>, MetaError>,
    ) -> Result<PgAddress, MetaError> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let user = credentials.map(|text| text.split_once(':').map_or(text, |(user, _)| user));
        let at = user.map_or(String::new(), |user| format!("{user}@"));
        let name = format!("postgres://{at}{host}/{database}");
        let bad = |what: &str| invalid(format!("`{name}` {what}"));
        let part = |text: &str| decoded(text, false).ok_or_else(|| bad("holds a percent code that is no UTF-8"));
        let given = credentials.and_then(|text| text.split_once(':')).map(|(_, password)| part(password));
        let (host, port) = host_and_port(host).ok_or_else(|| bad("has no valid host and port"))?;
        let limits = PoolLimits { connect_timeout: CONNECT_TIMEOUT, ..PoolLimits::default() };
        let server = ServerAddress { name: name.clone(), table_prefix: DEFAULT_PREFIX.to_owned(), limits };
        let mut address = PgAddress {
            server,
            host: part(host)?,
            port,
            user: user.map(part).transpose()?.filter(|user| !user.is_empty()),
            password: given.transpose()?.filter(|password| is_password(password)),
            database: Some(part(database)?).filter(|database| !database.is_empty()),
            tls: PgTls::Prefer,
            root_cert: None,
            cert: None,
            key: None,
            settings: Vec::new(),
        };
        for (key, value) in options(query) {
            let value = decoded(value, true).ok_or_else(|| bad("holds a percent code that is no UTF-8"))?;
            address.set(key, value)?;
        }
        if address.password.is_none() {
            address.password = password()?;
        }
        if address.database.is_none() {
            return Err(bad("names no database; write postgres://USER@HOST:5432/DATABASE"));
        }
        Ok(address)
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), MetaError> {
        let name = self.server.name.clone();
        // Never with the value: it may be a password.
        let wrong = || invalid(format!("option {key} of `{name}` has a value it cannot have"));
        let limits = &mut self.server.limits;
        match key {
            "table_prefix" => self.server.table_prefix = prefix(&value).ok_or_else(wrong)?,
            "max_open_conns" => limits.open(&value).ok_or_else(wrong)?,
            // Of the real client's pool and driver; here idle connections are few and statements always prepared.
            "max_idle_conns" | "max_idle_time" | "max_life_time" | "default_query_exec_mode" => {}
            "connect_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| wrong())?;
                limits.connect_timeout = if seconds == 0 { CONNECT_TIMEOUT } else { Duration::from_secs(seconds) };
            }
            "sslmode" => self.tls = PgTls::parse(&value).ok_or_else(wrong)?,
            "sslrootcert" => self.root_cert = Some(PathBuf::from(value)),
            "sslcert" => self.cert = Some(PathBuf::from(value)),
            "sslkey" => self.key = Some(PathBuf::from(value)),
            "host" => self.host = value,
            "port" => self.port = value.parse().map_err(|_| wrong())?,
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "dbname" => self.database = Some(value),
            "search_path" if value.contains(',') => {
                return Err(invalid(format!("search_path of `{name}` must be one schema: the volume lives in one")));
            }
            _ => self.settings.push((key.to_owned(), value)),
        }
        Ok(())
    }
}

impl PgTls {
    fn parse(text: &str) -> Option<PgTls> {
        Some(match text {
            "disable" => PgTls::Disable,
            "allow" => PgTls::Allow,
            "prefer" => PgTls::Prefer,
            "require" => PgTls::Require,
            "verify-ca" => PgTls::VerifyCa,
            "verify-full" => PgTls::VerifyFull,
            _ => return None,
        })
    }
}

/// Host and port of `host`, `host:port`, `[::1]:port` or nothing; none for what is none of these, such as several hosts.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    const PORT: u16 = 5432;
    if text.contains(',') {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    Some((if host.is_empty() { "localhost" } else { host }, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<PgAddress, MetaError> {
        PgAddress::parse(rest, || Ok(Some("of the environment".into())))
    }

    #[test]
    fn juicefs_urls_parse() {
        let a = parse("us%40r:p%40%3Ass@db.example:6432/jfs?sslmode=disable&search_path=one&table_prefix=zz").unwrap();
        assert_eq!((a.host.as_str(), a.port, a.database.as_deref()), ("db.example", 6432, Some("jfs")));
        assert_eq!((a.user.as_deref(), a.password.as_deref()), (Some("us@r"), Some("p@:ss")));
        assert_eq!((a.tls, a.server.table_prefix.as_str()), (PgTls::Disable, "jfs_zz_"));
        assert_eq!(a.settings, [("search_path".to_owned(), "one".to_owned())]);
        assert_eq!(a.server.name, "postgres://us%40r@db.example:6432/jfs");
        assert!(!format!("{a:?}").contains("ss@db"), "{a:?}");

        let a = parse("u@/jfs?host=/run/pg&port=7000&max_open_conns=3&connect_timeout=2").unwrap();
        assert_eq!((a.host.as_str(), a.port), ("/run/pg", 7000));
        assert_eq!(a.password.as_deref(), Some("of the environment"));
        assert_eq!((a.server.limits.connections_max, a.server.limits.connect_timeout), (3, Duration::from_secs(2)));

        let a = parse("[::1]:7001/jfs?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem").unwrap();
        assert_eq!((a.host.as_str(), a.port, a.user, a.tls), ("::1", 7001, None, PgTls::VerifyFull));
        assert_eq!(a.root_cert, Some("/ca.pem".into()));
        assert_eq!(parse("u:@h/jfs").unwrap().password.as_deref(), Some("of the environment"));
    }

    #[test]
    fn impossible_urls_are_invalid_and_keep_their_secrets() {
        for rest in [
            "u:secret@h:7000",
            "u:secret@h:port/d",
            "u:secret@a,b/d",
            "u:secret@[::1/d",
            "u:secret@h/d?sslmode=some",
            "u:secret@h/d?search_path=a,b",
            "u:secret@h/d?table_prefix=x;drop",
            "u:secret@h/d?max_open_conns=0",
            "u@h/d?connect_timeout=secret",
            "u:secret%ff@h/d",
        ] {
            let error = parse(rest).unwrap_err();
            assert_eq!(error.kind(), shoal_types::ErrorKind::Invalid, "{rest}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
