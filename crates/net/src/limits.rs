//! Every bound of the network in one place.

use std::time::Duration;

/// Streams a peer may have open on one connection: requests in flight, control streams and watches together. Each costs a task
/// and its request's bytes, some KiB; so this also bounds requests that are read and not yet admitted.
pub(crate) const MAX_STREAMS: u32 = 1024;
/// Gossip streams a peer may have open on one connection; gossip that fits a datagram needs none.
pub(crate) const MAX_GOSSIP_STREAMS: u32 = 64;
/// Gets of one connection being answered at once; a class fills only its share (see `admission`), more are answered `Busy`.
pub(crate) const MAX_GETS_PER_CONNECTION: u64 = 512;
/// Bytes that the gets of one connection being answered may ask for, by the same shares: four times what a client has in
/// flight at all. What a get asks for is what its handler may hold in memory for it.
pub(crate) const MAX_GET_BYTES_PER_CONNECTION: u64 = 256 << 20;
/// Gets being answered at once in the whole endpoint, by the same shares: some KiB each.
pub(crate) const MAX_GETS: u64 = 8192;
/// Bytes that all gets being answered may ask for, by the same shares: 25 Gbit/s for a third of a second.
pub(crate) const MAX_GET_BYTES: u64 = 1 << 30;
/// Control requests of one connection being answered at once, watches included; more are answered `Busy`.
pub(crate) const MAX_CALLS_PER_CONNECTION: usize = 256;
/// Control requests being answered at once in the whole endpoint, long-lived watches included; more are answered `Busy`.
pub(crate) const MAX_CALLS: usize = 2 * MAX_INBOUND;
/// Requests longer than this are read [`MAX_LONG_REQUESTS`] at a time for each connection: the longest has 4 MiB.
pub(crate) const LONG_REQUEST: u32 = 16 << 10;
/// See [`LONG_REQUEST`].
pub(crate) const MAX_LONG_REQUESTS: usize = 8;
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
/// Bytes of one connection in flight to its handlers.
pub(crate) const CONNECTION_WINDOW: u32 = 64 << 20;
/// The same to who asks: never less than all its streams together, since bodies that nobody reads must not keep a more urgent one
/// from coming. Who asks bounds what it has in flight.
pub(crate) const ASKING_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Bytes of one connection accepted from handlers and not yet acknowledged by the peer. No smaller than what gets may ask for:
/// a foreground answer that had to wait outside of the connection until less urgent ones are acknowledged would have no priority.
pub(crate) const SEND_WINDOW: u64 = 2 * MAX_GET_BYTES_PER_CONNECTION;
/// Bytes in flight over loopback, where only the socket buffer of the peer is in between: more than that is lost (measured: 63
/// packets in 4 s of four 4 MiB streams with 16 MiB, none with 4 MiB).
pub(crate) const LOOPBACK_FLIGHT: u64 = 4 << 20;
/// The least of it after losses: two of the largest packets.
pub(crate) const LOOPBACK_FLIGHT_MIN: u64 = 128 << 10;
/// Bytes of one body handed over to its reader and not yet taken: with [`STREAM_WINDOW`] what a reader that stopped costs.
pub(crate) const QUEUE_BYTES: usize = 2 << 20;
/// A reader on another thread is woken once so many bytes have come: a wake-up costs about as much as 64 KiB.
pub(crate) const WAKE_BYTES: usize = 1 << 20;
/// Or once nothing has come for this long.
pub(crate) const WAKE_AFTER: Duration = Duration::from_millis(1);
/// Answers of a batched get up to this many bytes are copied into one piece: the library looks through all pieces for each packet.
pub(crate) const HELD_BYTES: usize = 32 << 10;
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
/// The wait for a probe in so many steps, each of which a timer must end.
pub(crate) const PROBE_STEPS: u32 = 5;
/// A probe that was waited for less than this says nothing.
pub(crate) const PROBE_WAIT_MIN: Duration = Duration::from_millis(250);

/// On close, requests being answered get this long to end.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// On close, peers get this long to hear of it.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
