//! Flags of `mount` that let users count as another one.

use std::str::FromStr;

use shoal_fuse::{Squash, Squashed};

/// Names and meaning are JuiceFS's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SquashArgs {
    /// Let root of this host count as this user and group, whose permissions are checked by the mount
    #[arg(long, value_name = "UID:GID", conflicts_with = "all_squash")]
    root_squash: Option<Owner>,
    /// Let every user of this host count as this user and group
    #[arg(long, value_name = "UID:GID")]
    all_squash: Option<Owner>,
}

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Owner, String> {
        let parsed = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = parsed.ok_or_else(|| format!("`{text}` is no user and group; write them as 65534:65534"))?;
        Ok(Owner { uid, gid })
    }
}

impl SquashArgs {
    /// The users that count as another one, if any do.
    pub(crate) fn squash(&self) -> Option<Squash> {
        let squash = |who| move |Owner { uid, gid }| Squash { who, uid, gid };
        self.all_squash.map(squash(Squashed::All)).or(self.root_squash.map(squash(Squashed::Root)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!("65534:0".parse(), Ok(Owner { uid: 65_534, gid: 0 }));
        for text in ["", "1", "1:", ":1", "1:2:3", "-1:2", "nobody:nogroup", "4294967296:0"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
