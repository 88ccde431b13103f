//! Metadata URLs as JuiceFS spells them (spec section 21).

use std::path::PathBuf;

use shoal_meta::{MetaError, password_of_environment};

use crate::options::{Options, Plus, decoded, invalid};

/// Where servers listen that name no port.
const PORT: u16 = 6379;
/// Where sentinels listen that name no port.
const SENTINEL_PORT: u16 = 26379;

/// A database and how to talk to it.
#[derive(Clone)]
pub(crate) struct Address {
    /// The URL without password and options, for messages.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) tls: Tls,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Of the sentinels.
    pub(crate) sentinel_password: Option<String>,
    /// Number of the database.
    pub(crate) db: u32,
    pub(crate) options: Options,
}

/// Whether connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    On,
}

/// Where the master is, or who knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A server; it may say that it is one of a cluster.
    Tcp(Host),
    /// A server's socket.
    Unix(PathBuf),
    /// Any of these sentinels knows where the master of that name is.
    Sentinels { master: String, sentinels: Vec<Host> },
    /// Any of these servers knows the rest of its cluster.
    Cluster(Vec<Host>),
}

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Passwords that are not in the URL.
#[derive(Clone, Default)]
pub(crate) struct Passwords {
    pub(crate) server: Option<String>,
    pub(crate) sentinel: Option<String>,
}

impl Passwords {
    /// Those of the environment: `REDIS_PASSWORD`, `META_PASSWORD` or `META_PASSWORD_FILE`, and `SENTINEL_PASSWORD`.
    pub(crate) fn of_environment() -> Result<Passwords, MetaError> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let server = match variable("REDIS_PASSWORD") {
            Some(password) => Some(password),
            None => password_of_environment()?,
        };
        Ok(Passwords { server, sentinel: variable("SENTINEL_PASSWORD") })
    }
}

impl std::fmt::Debug for Address {
    /// Without passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

impl Address {
    /// Reads a URL; `passwords` are used where it has none. `Invalid` names what is wrong and no password.
    pub(crate) fn parse(url: &str, passwords: &Passwords) -> Result<Address, MetaError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let tls = match scheme {
            "redis" | "unix" => Tls::Off,
            "rediss" => Tls::On,
            _ => return Err(invalid("a Redis metadata URL begins with redis://, rediss:// or unix://")),
        };
        // A socket's path begins with the first slash behind the password.
        let authority = if scheme == "unix" { rest.rfind('@').map_or("", |at| &rest[..at + 1]) } else { rest };
        let (authority, path) = match scheme {
            "unix" => (authority, &rest[authority.len()..]),
            _ => rest[authority.rfind('@').unwrap_or(0)..].find('/').map_or((rest, ""), |at| {
                let at = rest.rfind('@').unwrap_or(0) + at;
                (&rest[..at], &rest[at + 1..])
            }),
        };
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let shown = if user.is_empty() { String::new() } else { format!("{user}@") };
        let separator = if scheme == "unix" || path.is_empty() { "" } else { "/" };
        let name = format!("{scheme}://{shown}{hosts}{separator}{path}");
        let bad = |what: &str| invalid(format!("`{name}` {what}"));
        let part = |text: &str| decoded(text, Plus::IsPlus).ok_or_else(|| bad("holds a percent code that is no UTF-8"));
        let options = Options::parse(&name, query)?;
        let place = match scheme {
            "unix" if path.is_empty() => return Err(bad("names no socket; write unix:///PATH?db=DB")),
            "unix" => Place::Unix(PathBuf::from(part(path)?)),
            _ => hosts_of(hosts).ok_or_else(|| bad("has no valid host and port"))?,
        };
        let number = if scheme == "unix" { "" } else { path.trim_matches('/') };
        let db = match (number, options.db) {
            ("", db) => db.unwrap_or(0),
            (number, _) => number.parse().map_err(|_| bad("names a database that is no number"))?,
        };
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let password = given(part(password)?).filter(|text| text != "****").or_else(|| passwords.server.clone());
        let sentinel_password = passwords.sentinel.clone();
        let user = given(part(user)?);
        Ok(Address { place, tls, user, password, sentinel_password, db, options, name: name.clone() })
    }
}

/// What the hosts of a URL stand for.
fn hosts_of(text: &str) -> Option<Place> {
    let Some((first, others)) = text.split_once(',') else { return Some(Place::Tcp(host(text, PORT)?)) };
    let port_at = text.find(':').unwrap_or(text.len());
    if first.len() > port_at {
        return text.split(',').map(|one| host(one, PORT)).collect::<Option<_>>().map(Place::Cluster);
    }
    // The port of the last sentinel is that of all which name none.
    let port = host(others.rsplit(',').next()?, SENTINEL_PORT)?.port;
    let sentinels = others.split(',').map(|one| host(one, port)).collect::<Option<Vec<_>>>()?;
    let master = Some(first.to_owned()).filter(|name| !name.is_empty())?;
    Some(Place::Sentinels { master, sentinels })
}

/// `host`, `host:port`, `[::1]:port`, or nothing for this machine.
pub(crate) fn host(text: &str, port: u16) -> Option<Host> {
    let (name, given) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']')?;
            (name, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = given.map_or(Some(port), |port| port.parse().ok())?;
    let name = if name.is_empty() { "localhost" } else { name }.to_owned();
    Some(Host { name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        let passwords = Passwords { server: Some("of the environment".into()), sentinel: Some("s".into()) };
        Address::parse(url, &passwords).unwrap()
    }

    fn at(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn juicefs_urls_parse() {
        let a = parse("redis://us%40r:p%2F@ss@db.example:7000/3?dial-timeout=2");
        assert_eq!((a.place.clone(), a.db), (Place::Tcp(at("db.example", 7000)), 3));
        assert_eq!((a.user.as_deref(), a.password.as_deref()), (Some("us@r"), Some("p/@ss")));
        assert_eq!(a.name, "redis://us%40r@db.example:7000/3");
        assert!(!format!("{a:?}").contains("ss@db"), "{a:?}");

        let a = parse("rediss://:secret@[::1]");
        assert_eq!((a.place.clone(), a.tls, a.db), (Place::Tcp(at("::1", 6379)), Tls::On, 0));
        assert_eq!((a.user, a.password.as_deref(), a.name.as_str()), (None, Some("secret"), "rediss://[::1]"));
        let a = parse("redis://localhost");
        assert_eq!((a.place, a.password.as_deref()), (Place::Tcp(at("localhost", 6379)), Some("of the environment")));
        assert_eq!(parse("redis://h?db=5").db, 5);
        assert_eq!(parse("redis://:****@h/1").password.as_deref(), Some("of the environment"));

        let a = parse("unix://u:p@/run/redis.sock?db=2");
        assert_eq!((a.place, a.db, a.password.as_deref()), (Place::Unix("/run/redis.sock".into()), 2, Some("p")));
        assert_eq!(a.name, "unix://u@/run/redis.sock");
        assert_eq!(parse("unix:///run/redis.sock").place, Place::Unix("/run/redis.sock".into()));
    }

    #[test]
    fn several_hosts_are_a_cluster_or_sentinels() {
        let a = parse("redis://:p@mymaster,a,b:26380,c/2");
        let sentinels = vec![at("a", 26379), at("b", 26380), at("c", 26379)];
        assert_eq!(a.place, Place::Sentinels { master: "mymaster".into(), sentinels });
        assert_eq!((a.db, a.sentinel_password.as_deref()), (2, Some("s")));
        let Place::Sentinels { sentinels, .. } = parse("redis://mymaster,a,b:7001/2").place else { panic!() };
        assert_eq!(sentinels, [at("a", 7001), at("b", 7001)]);
        assert_eq!(parse("redis://a:1,b,c:3/1").place, Place::Cluster(vec![at("a", 1), at("b", 6379), at("c", 3)]));
    }

    #[test]
    fn impossible_urls_are_invalid_and_keep_their_secrets() {
        for url in [
            "redis://:secret@h:port/1",
            "redis://:secret@h/one",
            "redis://:secret@[::1/1",
            "redis://:secret@,a/1",
            "redis://:secret%ff@h/1",
            "redis://:secret@h/1?nonsense=secret",
            "unix://:secret@",
        ] {
            let error = Address::parse(url, &Passwords::default()).unwrap_err();
            assert_eq!(error.kind(), shoal_types::ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
