//! Handles of a simulated stream, as the QUIC library's behave.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ClosedStream, ReadError, ReadToEndError, VarInt, WriteError};

use super::core::{Content, Core, CoreState, EndOf, Half, Kind};
use super::wire::Care;
use crate::limits::STREAM_WINDOW;

/// Keeps a connection open: it closes when the last holder at an end is gone.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) core: Arc<Core>,
    pub(super) end: EndOf,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.core.close(self.end, VarInt::from_u32(0), b"");
    }
}

/// A stream to the peer.
#[derive(Debug)]
pub(crate) struct SimSend {
    hold: Arc<Hold>,
    number: u64,
    /// Only gossip has streams without an answer.
    gossip: bool,
}

impl SimSend {
    pub(super) fn new(hold: Arc<Hold>, number: u64, gossip: bool) -> SimSend {
        SimSend { hold, number, gossip }
    }

    fn core(&self) -> &Arc<Core> {
        &self.hold.core
    }

    fn tell(&self, kind: Kind, change: impl FnOnce(&mut Half) + Send + 'static) {
        let (end, number) = (self.hold.end, self.number);
        self.core().send(end, Care::Repeat, Content::of(kind), move |core| core.change(number, end, 1 - end, change));
    }

    /// Waits while the peer has a window's worth unread.
    pub(crate) async fn write(&mut self, parts: &mut [Bytes]) -> Result<(), WriteError> {
        let (end, number) = (self.hold.end, self.number);
        let len: usize = parts.iter().map(Bytes::len).sum();
        self.core()
            .when(end, |state| {
                let closed = state.ends[end].closed.clone();
                let half = half(state, number, end)?;
                match (half.stopped, closed) {
                    _ if half.ended => Some(Err(WriteError::ClosedStream)),
                    (Some(code), _) => Some(Err(WriteError::Stopped(code))),
                    (None, Some(error)) => Some(Err(WriteError::ConnectionLost(error))),
                    (None, None) if half.unread >= STREAM_WINDOW as usize => None,
                    (None, None) => {
                        half.unread += len;
                        Some(Ok(()))
                    }
                }
            })
            .await?;
        let content = Content { parts, gossip: self.gossip, ..Content::of(Kind::Data) };
        let sent: Vec<Bytes> = parts.iter().filter(|part| !part.is_empty()).cloned().collect();
        self.core().send(end, Care::Repeat, content, move |core| {
            core.change(number, end, 1 - end, |half| half.queue.extend(sent));
        });
        parts.iter_mut().for_each(Bytes::clear);
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), ClosedStream> {
        if !self.end_now() {
            return Err(ClosedStream::default());
        }
        let (end, number) = (self.hold.end, self.number);
        let core = self.core().clone();
        core.send(end, Care::Repeat, Content::of(Kind::Finish), move |core| {
            core.change(number, end, 1 - end, |half| half.finished = true);
            core.send(1 - end, Care::Repeat, Content::of(Kind::Acknowledge), move |core| {
                core.change(number, end, end, |half| half.acknowledged = true);
            });
        });
        Ok(())
    }

    pub(crate) fn reset(&mut self, code: u32) -> Result<(), ClosedStream> {
        if !self.end_now() {
            return Err(ClosedStream::default());
        }
        self.tell(Kind::Reset, move |half| {
            half.queue.clear();
            half.reset = Some(VarInt::from_u32(code));
        });
        Ok(())
    }

    /// Resolves when the peer wants no more, when it has all of it, and when the connection ends.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let (core, end, number) = (self.core().clone(), self.hold.end, self.number);
        async move {
            core.when(end, |state| {
                let closed = state.ends[end].closed.is_some();
                let over = half(state, number, end).is_none_or(|half| half.acknowledged || half.stopped.is_some());
                (closed || over).then_some(())
            })
            .await
        }
    }

    /// Marks the stream as ended by this side; false if it was.
    fn end_now(&self) -> bool {
        let mut state = self.core().state.lock();
        let open = state.ends[self.hold.end].closed.is_none();
        let half = half(&mut state, self.number, self.hold.end);
        half.is_some_and(|half| !std::mem::replace(&mut half.ended, true) && open)
    }
}

impl Drop for SimSend {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.finish();
        self.core().release(self.number);
    }
}

/// A stream from the peer.
#[derive(Debug)]
pub(crate) struct SimRecv {
    hold: Arc<Hold>,
    number: u64,
    /// The end was read, or nothing more is wanted.
    done: bool,
    stopped: bool,
}

impl SimRecv {
    pub(super) fn new(hold: Arc<Hold>, number: u64) -> SimRecv {
        SimRecv { hold, number, done: false, stopped: false }
    }

    pub(crate) async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        if self.stopped {
            return Err(ReadError::ClosedStream);
        }
        let (end, number) = (self.hold.end, self.number);
        let core = self.hold.core.clone();
        let read = core.when(end, |state| {
            let closed = state.ends[end].closed.clone();
            let half = half(state, number, 1 - end)?;
            if let Some(code) = half.reset {
                return Some(Err(ReadError::Reset(code)));
            }
            if let Some(next) = half.queue.front_mut() {
                let bytes = next.split_to(max.min(next.len()));
                if next.is_empty() {
                    half.queue.pop_front();
                }
                half.unread -= bytes.len();
                return Some(Ok(Some(bytes)));
            }
            if half.finished { Some(Ok(None)) } else { closed.map(|error| Err(ReadError::ConnectionLost(error))) }
        });
        let read = read.await;
        match &read {
            // There is room for the sender again.
            Ok(Some(_)) => core.tell(1 - end),
            Ok(None) | Err(_) => self.done = true,
        }
        read
    }

    pub(crate) async fn read_to_end(&mut self, max: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read_chunk(usize::MAX).await.map_err(ReadToEndError::Read)? {
            if all.len() + bytes.len() > max {
                return Err(ReadToEndError::TooLong);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    pub(crate) fn stop(&mut self, code: u32) -> Result<(), ClosedStream> {
        if self.done {
            return Err(ClosedStream::default());
        }
        (self.done, self.stopped) = (true, true);
        let (end, number) = (self.hold.end, self.number);
        if self.hold.core.state.lock().ends[end].closed.is_some() {
            return Ok(());
        }
        self.hold.core.send(end, Care::Repeat, Content::of(Kind::Stop), move |core| {
            core.change(number, 1 - end, 1 - end, |half| half.stopped = Some(VarInt::from_u32(code)));
        });
        Ok(())
    }
}

impl Drop for SimRecv {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.stop(0);
        self.hold.core.release(self.number);
    }
}

fn half(state: &mut CoreState, number: u64, sender: EndOf) -> Option<&mut Half> {
    state.streams.get_mut(&number).map(|stream| &mut stream.halves[sender])
}
