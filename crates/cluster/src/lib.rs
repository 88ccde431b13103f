//! Which nodes form the ring, as every node and client sees it.
//!
//! Layer 3. Nodes agree by SWIM gossip (the `foca` crate) over `net`'s authenticated QUIC endpoint; there is no coordinator and
//! no consensus: two views may differ for some seconds, and a reader with a stale view loses time, never data. Clients do not
//! gossip: a [`Follower`] keeps a stream of views from one node.
//!
//! `membership::Membership` is the whole protocol without I/O or clock, tested under simulated time; everything
//! else moves its bytes.

mod cluster;
mod damping;
mod discovery;
mod error;
mod follower;
mod identity;
mod member;
mod membership;
mod metrics;
mod owner;
mod pace;
mod remembered;
#[cfg(feature = "testing")]
mod rings;
mod seeds;
mod timing;
mod view;

pub use cluster::{Cluster, ClusterConfig};
pub use error::ClusterError;
pub use follower::Follower;
pub use member::{Member, NAME_BYTES_MAX, ZONE_BYTES_MAX};
pub use seeds::{DEFAULT_PORT, Seed};
pub use timing::Timing;
pub use view::{MEMBERS_MAX, VIEW_BYTES_MAX, View, ViewPublisher, ViewWatch};
