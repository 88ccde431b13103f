//! A simulated connection: what both of its ends know, and how that changes as parcels arrive.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{ApplicationClose, ConnectionError, VarInt};
use shoal_runtime::{clock, rng};
use shoal_types::checksum::crc32c;
use tokio::sync::Notify;

use super::wire::{Care, Parcel, Wire};
use crate::identity::PeerIdentity;
use crate::limits::{DATAGRAM_BUFFER, IDLE_TIMEOUT, KEEP_ALIVE};

/// Which end of a connection: 0 made it, 1 took it.
pub(super) type EndOf = usize;

/// Bytes of a message beside its content.
pub(super) const SMALL: usize = 20;

/// One connection, shared by both ends.
pub(crate) struct Core {
    pub(super) number: u64,
    pub(super) addrs: [SocketAddr; 2],
    pub(super) identity: PeerIdentity,
    pub(super) wire: Wire,
    pub(super) state: Mutex<CoreState>,
    changed: [Notify; 2],
}

#[derive(Default)]
pub(super) struct CoreState {
    pub(super) ends: [End; 2],
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) next_stream: u64,
    /// The end that made it knows that it is made.
    pub(super) welcomed: bool,
}

/// What one end knows.
#[derive(Default)]
pub(super) struct End {
    /// The process that has this end; `None` until the connection is made.
    pub(super) process: Option<u64>,
    pub(super) closed: Option<ConnectionError>,
    /// Packets heard.
    pub(super) heard: u64,
    /// Since when it has heard nothing because it cannot.
    deaf_since: Option<Instant>,
    /// Streams the peer has opened and nobody has taken.
    pub(super) bi: VecDeque<u64>,
    pub(super) uni: VecDeque<u64>,
    pub(super) datagrams: VecDeque<Bytes>,
    datagram_bytes: usize,
}

/// A stream; index of a half is the end that sends.
pub(super) struct Stream {
    pub(super) halves: [Half; 2],
    /// The peer of the end that opened it knows of it.
    announced: bool,
    one_way: bool,
    /// Handles that exist or may still be taken.
    pub(super) handles: u8,
}

/// One direction of a stream.
#[derive(Default)]
pub(super) struct Half {
    /// Bytes sent and not yet taken by the reader.
    pub(super) unread: usize,
    /// The sender has finished or reset it.
    pub(super) ended: bool,
    /// The sender knows that the receiver has all of it.
    pub(super) acknowledged: bool,
    /// The sender knows that the receiver wants no more.
    pub(super) stopped: Option<VarInt>,
    /// What has arrived.
    pub(super) queue: VecDeque<Bytes>,
    /// The end has arrived.
    pub(super) finished: bool,
    pub(super) reset: Option<VarInt>,
}

impl Core {
    pub(super) fn new(number: u64, addrs: [SocketAddr; 2], identity: PeerIdentity, wire: Wire) -> Core {
        Core { number, addrs, identity, wire, state: Mutex::default(), changed: [Notify::new(), Notify::new()] }
    }

    /// Sends something from `end` to the other one; `act` happens there.
    pub(super) fn send(
        self: &Arc<Core>,
        end: EndOf,
        care: Care,
        content: Content<'_>,
        act: impl FnOnce(&Arc<Core>) + Send + 'static,
    ) {
        let core = self.clone();
        let bytes = content.parts.iter().map(Bytes::len).sum::<usize>() + content.padding;
        let digest = content.parts.iter().fold(content.kind as u64, |digest, part| {
            digest.rotate_left(7) ^ u64::from(crc32c(part)) ^ self.number.rotate_left(32)
        });
        let deliver = Box::new(move || {
            if core.is_known_at(1 - end) {
                core.state.lock().ends[1 - end].heard += 1;
                act(&core);
            } else {
                core.disown(1 - end);
            }
        });
        let (from, to) = (self.addrs[end], self.addrs[1 - end]);
        self.wire.send(Parcel { from, to, bytes, gossip: content.gossip, digest, care, deliver });
    }

    /// True if the process at the address of `end` knows this connection, or may come to know it.
    fn is_known_at(&self, end: EndOf) -> bool {
        let now = self.wire.process(self.addrs[end]);
        let state = self.state.lock();
        let end = &state.ends[end];
        end.closed.is_none() && (end.process.is_none() || end.process == now)
    }

    /// Answers for a process at `end` that does not know the connection: a stateless reset.
    fn disown(self: &Arc<Core>, end: EndOf) {
        let core = self.clone();
        let deliver = Box::new(move || core.end(1 - end, ConnectionError::Reset));
        let (from, to) = (self.addrs[end], self.addrs[1 - end]);
        let digest = self.number ^ Kind::Disown as u64;
        self.wire.send(Parcel { from, to, bytes: SMALL, gossip: false, digest, care: Care::None, deliver });
    }

    /// Ends the connection as `end` sees it; a second end changes nothing.
    pub(super) fn end(&self, end: EndOf, error: ConnectionError) {
        self.state.lock().ends[end].closed.get_or_insert(error);
        self.tell(end);
    }

    /// Ends it at `end` by will, and tells the other end.
    pub(super) fn close(self: &Arc<Core>, end: EndOf, code: VarInt, reason: &[u8]) {
        if self.state.lock().ends[end].closed.is_some() {
            return;
        }
        let reason = Bytes::copy_from_slice(reason);
        // Before this end is closed: a closed one is not heard.
        self.send(end, Care::None, Content::of(Kind::Close), move |core| {
            core.end(1 - end, ConnectionError::ApplicationClosed(ApplicationClose { error_code: code, reason }));
        });
        self.end(end, ConnectionError::LocallyClosed);
    }

    /// Takes a datagram that arrived at `end`; the oldest go when there are too many.
    pub(super) fn take_datagram(self: &Arc<Core>, end: EndOf, data: Bytes) {
        let probe = data.is_empty();
        {
            let mut state = self.state.lock();
            let end = &mut state.ends[end];
            end.datagram_bytes += data.len();
            end.datagrams.push_back(data);
            while end.datagram_bytes > DATAGRAM_BUFFER {
                let Some(oldest) = end.datagrams.pop_front() else { break };
                end.datagram_bytes -= oldest.len();
            }
        }
        if probe {
            // What must be acknowledged is.
            self.send(end, Care::None, Content::of(Kind::Acknowledge), |_| {});
        }
        self.tell(end);
    }

    /// The next datagram at `end`.
    pub(super) fn next_datagram(state: &mut CoreState, end: EndOf) -> Option<Bytes> {
        let end = &mut state.ends[end];
        let data = end.datagrams.pop_front()?;
        end.datagram_bytes -= data.len();
        Some(data)
    }

    /// Opens a stream at `end`; gives its number.
    pub(super) fn open(&self, one_way: bool) -> u64 {
        let mut state = self.state.lock();
        state.next_stream += 1;
        let number = state.next_stream;
        let handles = if one_way { 2 } else { 4 };
        state.streams.insert(number, Stream { halves: Default::default(), announced: false, one_way, handles });
        number
    }

    /// Changes the half of stream `number` that `sender` sends, if the stream still matters, and wakes `end`. A stream that the
    /// receiver hears of for the first time waits to be taken.
    pub(super) fn change(&self, number: u64, sender: EndOf, end: EndOf, change: impl FnOnce(&mut Half)) {
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            let Some(stream) = state.streams.get_mut(&number) else { return };
            if end != sender && !stream.announced {
                stream.announced = true;
                let end = &mut state.ends[end];
                if stream.one_way { &mut end.uni } else { &mut end.bi }.push_back(number);
            }
            change(&mut stream.halves[sender]);
        }
        self.tell(end);
    }

    /// A handle of stream `number` is gone.
    pub(super) fn release(&self, number: u64) {
        let mut state = self.state.lock();
        if let Some(stream) = state.streams.get_mut(&number) {
            stream.handles -= 1;
            if stream.handles == 0 {
                state.streams.remove(&number);
            }
        }
    }

    /// Wakes everything that waits at `end`.
    pub(super) fn tell(&self, end: EndOf) {
        self.changed[end].notify_waiters();
    }

    /// What `look` finds at `end`, as soon as it does.
    pub(super) async fn when<T>(&self, end: EndOf, mut look: impl FnMut(&mut CoreState) -> Option<T>) -> T {
        let mut changed = pin!(self.changed[end].notified());
        loop {
            {
                let mut state = self.state.lock();
                if let Some(found) = look(&mut state) {
                    return found;
                }
                changed.as_mut().enable();
            }
            changed.as_mut().await;
            changed.set(self.changed[end].notified());
        }
    }

    /// After any change of the network: an end that cannot hear any more begins to time out, and one whose peer has forgotten the
    /// connection finds out with its next sign of life.
    pub(super) fn reconsider(self: &Arc<Core>) {
        for end in [0, 1] {
            let hears = self.wire.hears(self.addrs[end], self.addrs[1 - end]);
            let timeout = {
                let mut state = self.state.lock();
                let end = &mut state.ends[end];
                match (hears, end.deaf_since) {
                    (true, _) => end.deaf_since = None,
                    (false, None) if end.closed.is_none() => end.deaf_since = Some(clock::now()),
                    (false, _) => continue,
                }
                end.deaf_since
            };
            if let Some(since) = timeout {
                let core = self.clone();
                self.wire.after(IDLE_TIMEOUT, Box::new(move || core.time_out(end, since)));
            } else if !self.is_known_at(1 - end) {
                let core = self.clone();
                let soon = KEEP_ALIVE.mul_f64((rng::random_u64() >> 11) as f64 / (1u64 << 53) as f64);
                self.wire.after(soon, Box::new(move || core.keep_alive(end)));
            }
        }
    }

    fn time_out(&self, end: EndOf, since: Instant) {
        if self.state.lock().ends[end].deaf_since == Some(since) {
            self.end(end, ConnectionError::TimedOut);
        }
    }

    fn keep_alive(self: &Arc<Core>, end: EndOf) {
        if self.state.lock().ends[end].closed.is_none() {
            self.send(end, Care::None, Content::of(Kind::KeepAlive), |_| {});
        }
    }

    /// True once nobody at either end can use it.
    pub(super) fn is_over(&self) -> bool {
        self.state.lock().ends.iter().all(|end| end.closed.is_some())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated connection {} of {} with {}", self.number, self.addrs[0], self.addrs[1])
    }
}

/// Kinds of messages, as the trace has them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Hello = 1,
    Welcome,
    Data,
    Finish,
    Reset,
    Stop,
    Acknowledge,
    Datagram,
    Close,
    KeepAlive,
    Disown,
}

/// What a message holds.
pub(super) struct Content<'a> {
    pub kind: Kind,
    pub parts: &'a [Bytes],
    /// Bytes beside the parts.
    pub padding: usize,
    pub gossip: bool,
}

impl Content<'_> {
    /// A message that says nothing but its kind.
    pub(super) fn of(kind: Kind) -> Content<'static> {
        Content { kind, parts: &[], padding: SMALL, gossip: false }
    }
}
