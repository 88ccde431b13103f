//! Every bound of the network in one place.

use std::time::Duration;

/// Streams a peer may have open on one connection: requests in flight, control streams and watches together.
pub(crate) const MAX_STREAMS: u32 = 1024;
/// Gossip streams a peer may have open on one connection; gossip that fits a datagram needs none.
pub(crate) const MAX_GOSSIP_STREAMS: u32 = 64;
/// Requests of one connection being answered at once; more wait in its streams, unread.
pub(crate) const MAX_HANDLERS_PER_CONNECTION: usize = 512;
/// Gets being answered at once in the whole endpoint; more are answered `Busy`.
pub(crate) const MAX_GETS: u32 = 8192;
/// Control requests being answered at once in the whole endpoint, long-lived watches included; more are answered `Busy`.
pub(crate) const MAX_CALLS: usize = 2 * MAX_INBOUND;
/// Connections of peers at once; more are turned away.
pub(crate) const MAX_INBOUND: usize = 8192;
/// Handshakes of peers at once; more are turned away. Each costs half a millisecond of CPU.
pub(crate) const MAX_HANDSHAKES: usize = 256;
/// From this many handshakes at once a peer must first prove its address, which costs it a round trip and us nothing.
pub(crate) const PROVE_ADDRESS_ABOVE: usize = 64;
/// A handshake that takes longer is given up.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers remembered at once, connected or backing off.
pub(crate) const MAX_PEERS: usize = 8192;

/// Bytes of one stream in flight to a reader that does not read: 2 MiB covers 25 Gbit/s at 0.6 ms.
pub(crate) const STREAM_WINDOW: u32 = 2 << 20;
/// Bytes of one connection in flight to readers that do not read.
pub(crate) const CONNECTION_WINDOW: u32 = 64 << 20;
/// Bytes of one connection accepted from handlers and not yet acknowledged by the peer: 320 MB/s at 50 ms to another region.
pub(crate) const SEND_WINDOW: u64 = 16 << 20;
/// The same over loopback, where only the socket buffer of the peer is in between: more than that is lost (measured: 63 packets
/// in 4 s of four 4 MiB streams with 16 MiB, none with 4 MiB).
pub(crate) const LOOPBACK_SEND_WINDOW: u64 = 4 << 20;
/// Bytes of datagrams (gossip) waiting to be read or sent; the oldest go first.
pub(crate) const DATAGRAM_BUFFER: usize = 1 << 20;
/// The same on connections this process made: answering peers send no datagrams, but without a buffer the library sends none.
pub(crate) const ANSWERED_DATAGRAM_BUFFER: usize = 1 << 10;
/// Largest gossip message in bytes: the full member list of 1000 nodes takes 20 KB.
pub(crate) const MAX_GOSSIP_BYTES: usize = 1 << 20;
/// Gossip messages waiting for a connection or a stream at once; more are dropped.
pub(crate) const MAX_GOSSIP_WAITING: usize = 256;
/// Socket buffers in bytes: with the default of 208 KiB a fifth of 64 KiB packets is lost.
pub(crate) const SOCKET_BUFFER: usize = 4 << 20;

/// A silent connection is kept alive this often; also how soon a dead peer's silence shows to its acknowledgements.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A connection without a sign of life for this long is lost.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's own bytes must arrive this soon after its stream opened.
pub(crate) const REQUEST_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest a get without a deadline is worked on.
pub(crate) const GET_HANDLER_TIMEOUT: Duration = Duration::from_secs(120);
/// A peer that takes no bytes for this long is no longer sent any.
pub(crate) const SEND_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// First pause after a failed connection attempt; doubles with each failure in a row.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause between attempts at a dead peer.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// Share by which a pause varies, so that many clients do not return at once.
pub(crate) const BACKOFF_JITTER: f64 = 0.25;
/// After a failure, requests wait only this long for the next attempt, which goes on without them: a live peer on a local
/// network answers in a few milliseconds, and a dead one must not cost every read a connection timeout.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_millis(100);
/// A peer that has been silent for this long (or half of the wait, if that is less) is sent something it must acknowledge.
pub(crate) const PROBE_AFTER: Duration = Duration::from_millis(1500);
/// A peer that acknowledges nothing for this long is dead: many round trips, and more than a busy machine's hiccup. With
/// [`PROBE_AFTER`] it is below the 5 s a reader waits before it goes elsewhere, so that it is noticed by the first of them.
pub(crate) const PROBE_WAIT: Duration = Duration::from_millis(2500);
/// A probe that was waited for less than this says nothing.
pub(crate) const PROBE_WAIT_MIN: Duration = Duration::from_millis(250);

/// On close, requests being answered get this long to end.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// On close, peers get this long to hear of it.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
