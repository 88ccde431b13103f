//! A node as the ring's members describe it to each other.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use shoal_ring::WEIGHT_MAX;
use shoal_types::NodeId;

use crate::error::ClusterError;

/// Longest name of a node, bytes: a host name's bound (RFC 1035 gives 255; 63 is one label).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest zone name, bytes.
pub const ZONE_BYTES_MAX: usize = 63;

/// What every member knows about one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Identity that survives restarts and address changes.
    pub id: NodeId,
    /// Name for people: the host name unless configured. At most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Where peers and clients reach it.
    pub addr: SocketAddr,
    /// Share of the key space relative to the others, `1..=1000`; 100 is one ordinary node.
    pub weight: u32,
    /// Bytes of cache it offers.
    pub capacity: u64,
    /// Failure domain, free text; empty if unknown. At most [`ZONE_BYTES_MAX`] bytes.
    pub zone: String,
    /// Orders the lives of one node id: a restarted node replaces what is known of its former life. Milliseconds since 1970
    /// at start, raised where needed; 0 lets [`crate::Cluster::start`] choose. Grows with each change of this description, too.
    pub incarnation: u64,
    /// The incarnation with which the process began that speaks here: where it is equal, it is the same process, however often
    /// its description has changed since. Set by [`crate::Cluster::start`].
    pub life: u64,
    /// It hands its blocks over and will leave: it owns nothing any more, but can be asked for what it still holds.
    pub leaving: bool,
    /// It came and went too often of late: until it has been calm for a while it owns nothing, but can be asked, unless
    /// a third of the ring is in the same state.
    pub damped: bool,
}

impl Member {
    /// An ordinary node: weight 100, no capacity, no zone, in the ring; for tests and rings given by hand.
    pub fn new(id: NodeId, name: &str, addr: SocketAddr) -> Member {
        Member {
            id,
            name: name.to_owned(),
            addr,
            weight: 100,
            capacity: 0,
            zone: String::new(),
            incarnation: 0,
            life: 0,
            leaving: false,
            damped: false,
        }
    }

    /// Checks every bound that peers rely on. Errors: `Invalid`, naming the field.
    pub fn check(&self) -> Result<(), ClusterError> {
        let field = if self.name.len() > NAME_BYTES_MAX {
            "name"
        } else if self.zone.len() > ZONE_BYTES_MAX {
            "zone"
        } else if !(1..=WEIGHT_MAX).contains(&self.weight) {
            "weight"
        } else if self.addr.port() == 0 || self.addr.ip().is_unspecified() {
            "addr"
        } else {
            return Ok(());
        };
        Err(ClusterError::BadMember { id: self.id, field })
    }
}
