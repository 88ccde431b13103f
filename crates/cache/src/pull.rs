//! Small blocks from a peer that hands them over, many in one request.
//!
//! A request a block would cost more than its bytes. The peer does not say how large its blocks are: a request asks for as many
//! bytes of each as a small one has, and once most of them turn out larger, the rest is left to requests of their own.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shoal_net::NetError;
use shoal_runtime::clock;
use shoal_store::{InsertHint, Store, StoreError};
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class};
use shoal_wire::{GetHead, GetMany, MAX_MANY_BYTES, Status};

use crate::handover::SMALL_BYTES;
use crate::holders::{Holder, Holders};
use crate::metrics::Meter;
use crate::node_metrics::NodeMeter;
use crate::nodes::Skip;
use crate::room::Room;

/// Blocks in the first request, before anything is known of their size.
const FIRST_ITEMS: usize = 16;
/// Blocks in one request.
const ITEMS: usize = (MAX_MANY_BYTES / SMALL_BYTES as u64) as usize;

/// What pulling needs.
pub(crate) struct Pull<'a> {
    pub(crate) class: Class,
    pub(crate) from: &'a Holder,
    pub(crate) holders: &'a Holders,
    pub(crate) room: &'a Room,
    pub(crate) store: &'a Store,
    pub(crate) meter: &'a Meter,
    pub(crate) counters: &'a NodeMeter,
}

/// What came of pulling.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// Blocks that are stored now, and their bytes.
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// What the peer did not give: larger blocks, and those it does not hold.
    pub(crate) left: Vec<BlockKey>,
}

impl Pull<'_> {
    /// Brings those of `keys` into the store that are small. Whatever goes wrong, the rest is left. Cancel-safe.
    pub(crate) async fn small(&self, mut keys: Vec<BlockKey>) -> Pulled {
        let mut pulled = Pulled::default();
        let mut items = FIRST_ITEMS;
        while !keys.is_empty() && self.holders.may_ask(self.from) {
            let rest = keys.split_off(keys.len().min(items));
            let (asked, left) = (keys.len(), pulled.left.len());
            let result = self.request(keys, &mut pulled).await;
            keys = rest;
            if let Err(skip) = result {
                self.meter.skipped(skip.reason);
                tracing::debug!(peer = %self.from.addr, reason = skip.reason.as_str(), "a peer gives no more small blocks");
                break;
            }
            if (pulled.left.len() - left) * 2 > asked {
                break;
            }
            items = ITEMS;
        }
        pulled.left.append(&mut keys);
        pulled
    }

    /// One request. What did not come is put into `pulled.left`, also on an error.
    async fn request(&self, keys: Vec<BlockKey>, pulled: &mut Pulled) -> Result<(), Skip> {
        let most = u64::from(SMALL_BYTES) * keys.len() as u64;
        let _turn = self.room.turn(self.class, most).await;
        let asked = clock::now();
        let mut storing = FuturesUnordered::new();
        let mut waiting = keys.iter();
        let result = self.receive(&keys, |head, bytes| {
            let Some(key) = waiting.next() else { return };
            match is_whole(key, head, &bytes) {
                true => storing.push(keep(self.store, key, bytes)),
                false => pulled.left.push(key.clone()),
            }
        });
        let result = result.await;
        self.holders.note(self.from, asked, &result);
        pulled.left.extend(waiting.cloned());
        while let Some((key, len, kept)) = storing.next().await {
            match kept {
                Ok(()) => {
                    self.counters.takes();
                    self.counters.taken(len);
                    pulled.blocks += 1;
                    pulled.bytes += len as u64;
                }
                Err(error) => {
                    tracing::debug!(%key, %error, "a block that was handed over was not stored");
                    pulled.left.push(key.clone());
                }
            }
        }
        result
    }

    /// Hands each answer to `each`, in the order of `keys`.
    async fn receive(&self, keys: &[BlockKey], mut each: impl FnMut(&GetHead, Bytes)) -> Result<(), Skip> {
        let items = keys.iter().map(|key| (key.clone(), BlockRange::new(0, SMALL_BYTES))).collect();
        let many = GetMany { class: self.class, local: true, ..GetMany::new(items) };
        let Some(endpoint) = self.holders.endpoint() else { return Err(Skip::answered(Status::NotFound)) };
        let failed = |error: NetError| Skip::failed(&error);
        let patience = self.holders.leisure();
        let reply = clock::timeout(patience, endpoint.get_many(self.from.addr, many)).await;
        let mut reply = reply.map_err(|_| Skip::silent())?.map_err(failed)?;
        while let Some((head, bytes)) =
            clock::timeout(patience, reply.next()).await.map_err(|_| Skip::silent())?.map_err(failed)?
        {
            each(&head, bytes);
        }
        Ok(())
    }
}

/// True if `bytes` are all of the block.
fn is_whole(key: &BlockKey, head: &GetHead, bytes: &Bytes) -> bool {
    let len = head.block_len;
    let may = match key.span() {
        BlockSpan::Part { len: must, .. } => *must == len,
        BlockSpan::Whole => true,
    };
    may && head.status == Status::Ok && bytes.len() as u64 == u64::from(len) && head.range == BlockRange::new(0, len)
}

async fn keep<'a>(store: &Store, key: &'a BlockKey, bytes: Bytes) -> (&'a BlockKey, usize, Result<(), StoreError>) {
    let len = bytes.len();
    (key, len, store.insert_with(key, bytes, InsertHint { warm: true }).await)
}
