//! What follows the `?` of a URL.

use std::path::PathBuf;
use std::time::Duration;

use shoal_meta::MetaError;

/// Longest wait for a new connection, as real clients wait.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer: twice that of real clients, so that a server that is silent for half a minute is waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections to the server: a client's requests share them, for each carries many at once.
const CONNECTIONS: usize = 2;
/// Most connections a URL may ask for.
const CONNECTIONS_MAX: usize = 64;

/// How to talk to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Longest wait for a new connection.
    pub(crate) dial_timeout: Duration,
    /// Longest wait for an answer.
    pub(crate) read_timeout: Duration,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Number of the database, where the URL says it here.
    pub(crate) db: Option<u32>,
    pub(crate) tls: TlsOptions,
}

/// What to do about certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// Takes any certificate.
    pub(crate) insecure: bool,
    /// Authorities that certificates must be of; the system's without it.
    pub(crate) ca_cert: Option<PathBuf>,
    /// This client's certificate and its key.
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// The name that certificates must be for; the host's without it.
    pub(crate) server_name: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            dial_timeout: DIAL_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            connections: CONNECTIONS,
            db: None,
            tls: TlsOptions::default(),
        }
    }
}

impl Options {
    /// Reads the options of URL `name`, whose values stand in no message: one may be a secret.
    pub(crate) fn parse(name: &str, query: &str) -> Result<Options, MetaError> {
        let mut options = Options::default();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value, Plus::IsSpace);
            // Real clients take both spellings.
            let key = key.replace('_', "-");
            let known = value.and_then(|value| options.set(&key, value));
            known.ok_or_else(|| {
                invalid(format!("option {key} of `{name}` is not known or has a value it cannot have"))
            })?;
        }
        let tls = &options.tls;
        if tls.cert.is_some() != tls.key.is_some() {
            return Err(invalid(format!("`{name}` needs both tls-cert-file and tls-key-file, or neither")));
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: String) -> Option<()> {
        match key {
            "db" => self.db = Some(value.parse().ok()?),
            "dial-timeout" => self.dial_timeout = duration(&value).filter(|time| !time.is_zero())?,
            "read-timeout" => self.read_timeout = duration(&value).filter(|time| !time.is_zero())?,
            "pool-size" => self.connections = value.parse().ok().filter(|n| (1..=CONNECTIONS_MAX).contains(n))?,
            "insecure-skip-verify" | "skip-verify" => self.tls.insecure = !matches!(value.as_str(), "" | "false"),
            "tls-ca-cert-file" => self.tls.ca_cert = Some(PathBuf::from(value)),
            "tls-cert-file" => self.tls.cert = Some(PathBuf::from(value)),
            "tls-key-file" => self.tls.key = Some(PathBuf::from(value)),
            "tls-server-name" => self.tls.server_name = Some(value),
            // Of the real client's driver and pool. Requests are asked again once and by the callers of a transaction, connections are
            // shared and few, and replicas are not read: they lag behind.
            "write-timeout"
            | "max-retries"
            | "min-retry-backoff"
            | "max-retry-backoff"
            | "route-read"
            | "client-cache"
            | "client-cache-size"
            | "client-cache-expire"
            | "client-cache-preload"
            | "client-name"
            | "protocol"
            | "pool-fifo"
            | "pool-timeout"
            | "min-idle-conns"
            | "max-idle-conns"
            | "max-active-conns"
            | "conn-max-idle-time"
            | "conn-max-lifetime"
            | "idle-timeout"
            | "idle-check-frequency"
            | "max-conn-age" => {}
            _ => return None,
        }
        Some(())
    }
}

/// `5` (seconds), or as Go writes durations: `1m30s`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..unit].parse().ok()?;
        let end = rest[unit..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| unit + at);
        let seconds = match &rest[unit..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[end..];
    }
    Some(total)
}

/// What `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// Itself, as in front of the `?`.
    IsPlus,
    /// A space, as behind it.
    IsSpace,
}

/// `%41` becomes `A`. `None` for what is no UTF-8 then.
pub(crate) fn decoded(text: &str, plus: Plus) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            _ if bytes[at] == b'+' && plus == Plus::IsSpace => out.push(b' '),
            _ => out.push(bytes[at]),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

pub(crate) fn invalid(what: impl Into<String>) -> MetaError {
    MetaError::Invalid { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_real_clients_are_taken() {
        let query = "dial-timeout=2&read_timeout=1m30s&write-timeout=5s&min-retry-backoff=20ms&max_retries=3&route-read=replica\
                     &tls-ca-cert-file=%2Fca.pem&tls-cert-file=/c.pem&tls-key-file=/k.pem&tls-server-name=db&pool_size=7&db=3";
        let options = Options::parse("redis://h/1", query).unwrap();
        assert_eq!((options.dial_timeout.as_secs(), options.read_timeout.as_secs()), (2, 90));
        assert_eq!((options.connections, options.db), (7, Some(3)));
        assert_eq!(options.tls.ca_cert, Some("/ca.pem".into()));
        assert_eq!(options.tls.server_name.as_deref(), Some("db"));
        assert!(!options.tls.insecure);
        assert!(Options::parse("n", "insecure-skip-verify=true").unwrap().tls.insecure);
    }

    #[test]
    fn impossible_options_are_named_without_their_values() {
        for query in [
            "nonsense=secret",
            "db=secret",
            "read-timeout=secret",
            "pool-size=0",
            "tls-cert-file=secret",
            "dial-timeout=0",
        ] {
            let error = Options::parse("redis://h/1", query).unwrap_err().to_string();
            assert!(error.contains("redis://h/1") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [("7", 7000), ("250ms", 250), ("1.5s", 1500), ("1h2m3s4ms", 3_723_004), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["s", "5x", "-1s", "5s!"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
