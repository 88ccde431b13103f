//! The places a block is looked for, nearest first.

use std::fmt;

/// One place to look for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// Memory of the process that answers.
    Ram = 0,
    /// A cache directory of the node that answers.
    Nvme = 1,
    /// Another node of the ring.
    Peer = 2,
    /// The object store.
    Origin = 3,
}

impl Tier {
    /// Every tier, nearest first.
    pub const ALL: [Tier; 4] = [Tier::Ram, Tier::Nvme, Tier::Peer, Tier::Origin];

    /// The tier's name as metrics and tables spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Ram => "ram",
            Tier::Nvme => "nvme",
            Tier::Peer => "peer",
            Tier::Origin => "origin",
        }
    }

    /// The tier with wire number `n`, if there is one.
    pub const fn from_u8(n: u8) -> Option<Tier> {
        match n {
            0 => Some(Tier::Ram),
            1 => Some(Tier::Nvme),
            2 => Some(Tier::Peer),
            3 => Some(Tier::Origin),
            _ => None,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
