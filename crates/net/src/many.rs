//! Answers to a batched get.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use shoal_types::ErrorKind;
use shoal_wire::{FrameKind, GetHead, Status};

use crate::body::{broken, decode_header};
use crate::chunks::{Chunks, Patience};
use crate::error::NetError;
use crate::handoff::{Feed, Reader};
use crate::inbound::{Halt, Inbound};
use crate::metrics::NetMetrics;
use crate::wait::within;

/// What an item without bytes weighs in the queue to its reader.
const ITEM_BYTES: usize = 256;

/// Answers to the items of a batched get, in the order asked. Dropping it before its end tells the peer to stop.
pub struct ManyReply {
    reader: Reader<(GetHead, Bytes)>,
    ready: VecDeque<(GetHead, Bytes)>,
}

impl std::fmt::Debug for ManyReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManyReply({} items at hand)", self.ready.len())
    }
}

impl ManyReply {
    pub(crate) fn new(reader: Reader<(GetHead, Bytes)>) -> ManyReply {
        ManyReply { reader, ready: VecDeque::new() }
    }

    /// The next item: its head, and its bytes, which are empty unless the head's status is `Ok`. `None` after the last.
    ///
    /// Errors: as [`crate::Body`]; and the kind of its status when the peer refused the batch as a whole. The items before the
    /// error are good. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<(GetHead, Bytes)>, NetError> {
        if self.ready.is_empty() && !self.reader.take(&mut self.ready).await? {
            return Ok(None);
        }
        Ok(self.ready.pop_front())
    }
}

/// The stream of a batched get while it is read on the network thread. Dropped before its end, it tells the peer to stop.
pub(crate) struct IncomingMany {
    inbound: Inbound,
    peer: SocketAddr,
    /// For each head, and for each piece of a body.
    answer: Patience,
    body: Patience,
    metrics: Arc<NetMetrics>,
    received: u64,
    ended: bool,
}

impl IncomingMany {
    pub(crate) fn new(
        inbound: Inbound,
        peer: SocketAddr,
        answer: Patience,
        body: Patience,
        metrics: Arc<NetMetrics>,
    ) -> IncomingMany {
        IncomingMany { inbound, peer, answer, body, metrics, received: 0, ended: false }
    }

    /// Puts `items` answers into `feed`, the first of which has the head in `head`.
    pub(crate) async fn pump(mut self, head: Vec<u8>, items: usize, mut feed: Feed<(GetHead, Bytes)>) {
        let unwanted = feed.unwanted();
        let pumped = tokio::select! {
            biased;
            pumped = self.try_pump(head, items, &mut feed) => pumped,
            () = unwanted => return,
        };
        match &pumped {
            Ok(()) => self.inbound.end(),
            Err(error) => self.inbound.stop(Status::from(error.kind())),
        }
        self.metrics.body(pumped.as_ref().err().map(NetError::kind), self.received);
        self.ended = true;
        feed.end(pumped);
    }

    async fn try_pump(
        &mut self,
        head: Vec<u8>,
        items: usize,
        feed: &mut Feed<(GetHead, Bytes)>,
    ) -> Result<(), NetError> {
        let mut item = self.item(head).await?;
        for _ in 1..items {
            let (before, weight) = (item.0.clone(), item.1.len() + ITEM_BYTES);
            feed.put([item], weight);
            feed.room().await;
            item = self.next_item(before).await?;
        }
        feed.put([item], ITEM_BYTES);
        Ok(())
    }

    /// The item behind the one of head `before`.
    async fn next_item(&mut self, before: GetHead) -> Result<(GetHead, Bytes), NetError> {
        let (limit, peer) = (self.answer.limit(), self.peer);
        let head = within(limit, self.next_head(before)).await.unwrap_or(Err(NetError::Timeout { peer, limit }))?;
        self.item(head).await
    }

    async fn next_head(&mut self, before: GetHead) -> Result<Vec<u8>, NetError> {
        let peer = self.peer;
        let header = match self.inbound.header().await {
            Ok(header) => decode_header(peer, &header, FrameKind::GetHead)?,
            // One refusal for all: the peer could not read the batch.
            Err(Halt::End) if self.inbound.is_between_messages() && before.status != Status::Ok => {
                return Err(NetError::Answered { peer, status: before.status, message: before.message });
            }
            Err(halt) => return Err(broken(peer, halt)),
        };
        self.inbound.payload(header.len as usize).await.map_err(|halt| broken(peer, halt))
    }

    /// The item whose head's payload is `head`.
    async fn item(&mut self, head: Vec<u8>) -> Result<(GetHead, Bytes), NetError> {
        let peer = self.peer;
        let head = GetHead::decode(&head).map_err(|source| NetError::Wire { peer, source })?;
        let bytes = Chunks::new(peer, head.range.len(), self.body).collect(&mut self.inbound).await?;
        self.received += bytes.len() as u64;
        Ok((head, bytes.freeze()))
    }
}

impl Drop for IncomingMany {
    fn drop(&mut self) {
        if !self.ended {
            self.inbound.stop(Status::Unavailable);
            self.metrics.body(Some(ErrorKind::Cancelled), self.received);
        }
    }
}
