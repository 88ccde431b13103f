//! Rings of real nodes and mounts on hosts of their own: network namespaces on one switch, with real addresses, and an origin that
//! misbehaves on request. While something breaks, a reader checks every byte it gets from a mount; each scenario prints what the
//! fault cost it: pauses, bytes, requests of the origin.
//!
//! `SHOAL_LONG=1` makes the faults last as long as an operator would see them; without it they are as short as shows the same.

mod rig;

#[path = "netns/bed.rs"]
mod bed;
#[path = "netns/counters.rs"]
mod counters;
#[path = "netns/links.rs"]
mod links;
#[path = "netns/net.rs"]
mod net;
#[path = "netns/nodes.rs"]
mod nodes;
#[path = "netns/origins.rs"]
mod origins;
#[path = "netns/reader.rs"]
mod reader;
#[path = "netns/ring.rs"]
mod ring;
