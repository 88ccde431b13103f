//! Who a peer is: the role, group and name its certificate carries as the URI `shoal://<group>/<role>/<name>`.

use std::fmt;
use std::str::FromStr;

/// Longest group or name, in bytes: they are shown in tables and metrics-free logs, and DNS labels stop there too.
pub const MAX_NAME_BYTES: usize = 63;

const SCHEME: &str = "shoal://";

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A cache node: serves blocks and sends gossip.
    Node,
    /// A client: only asks.
    Client,
}

impl Role {
    /// The role as certificates and flags spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an identity: shoal://<group>/<node or client>/<name>, with letters, digits, `.`, `-` and `_`")]
pub struct ParseIdentityError(pub(crate) String);

impl FromStr for Role {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Role, ParseIdentityError> {
        match text {
            "node" => Ok(Role::Node),
            "client" => Ok(Role::Client),
            _ => Err(ParseIdentityError(text.to_owned())),
        }
    }
}

/// An authenticated peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// What it may do.
    pub role: Role,
    /// The group of machines that trust each other; one CA serves one group.
    pub group: String,
    /// Its own name, for people.
    pub name: String,
}

impl PeerIdentity {
    /// An identity with a checked group and name: 1 to [`MAX_NAME_BYTES`] letters, digits, `.`, `-` or `_`.
    pub fn new(role: Role, group: &str, name: &str) -> Result<PeerIdentity, ParseIdentityError> {
        for text in [group, name] {
            if !is_name(text) {
                return Err(ParseIdentityError(text.to_owned()));
            }
        }
        Ok(PeerIdentity { role, group: group.to_owned(), name: name.to_owned() })
    }
}

/// True if `text` may be a group or a name.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.group, self.role, self.name)
    }
}

impl FromStr for PeerIdentity {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<PeerIdentity, ParseIdentityError> {
        let bad = || ParseIdentityError(text.to_owned());
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(bad)?.split('/');
        let (Some(group), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        PeerIdentity::new(role.parse().map_err(|_| bad())?, group, name).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_their_uri() {
        let identity = PeerIdentity::new(Role::Node, "gpu-a", "rack1.n_3").unwrap();
        assert_eq!(identity.to_string(), "shoal://gpu-a/node/rack1.n_3");
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("shoal://{}/node/a", "g".repeat(64));
        for text in [
            "",
            "shoal://g/node",
            "shoal://g/node/a/b",
            "shoal://g/admin/a",
            "shoal:///node/a",
            "shoal://g/node/",
            "https://g/node/a",
            "shoal://g g/node/a",
            "shoal://g/node/é",
            &long,
        ] {
            assert!(text.parse::<PeerIdentity>().is_err(), "{text}");
        }
    }
}
