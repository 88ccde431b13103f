//! One slice while it is written: its bytes in blocks, each open, on its way to the object store, or stored.
//!
//! Pure. Bytes of a block that is on its way never change: a write behind them begins another slice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use shoal_format::{SliceRecord, Time};
use shoal_runtime::budget::Permit;
use tokio::sync::OnceCell;

/// A slice is frozen at this age however busy it is: what was written is visible to others after about so long.
const AGE_MAX: Duration = Duration::from_secs(5);
/// A slice of this age that nobody wrote to for as long is frozen.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// The id a slice gets when its first block is stored.
pub(crate) type SliceId = Arc<OnceCell<u64>>;

/// A slice that is not in the volume yet.
#[derive(Debug)]
pub(crate) struct Slice {
    pub number: u64,
    pub chunk: u32,
    /// Time of the last write into it, for the file's mtime.
    pub mtime: Time,
    /// When it was written to last, or its last block stored.
    pub touched: Instant,
    /// True if it can never be stored.
    pub failed: bool,
    pub id: SliceId,
    born: Instant,
    /// Where it begins in the chunk.
    pos: u32,
    len: u32,
    block_size: u32,
    blocks: Vec<Buffer>,
    /// Blocks handed out to be stored: the first so many.
    sealed: u32,
    /// How many of them are stored.
    stored: u32,
    frozen: bool,
}

#[derive(Debug)]
enum Buffer {
    Open { bytes: BytesMut, memory: Option<Permit> },
    Sealed(Bytes),
    Stored,
}

/// A block to store.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Number of its slice in the file.
    pub number: u64,
    /// Id of the slice, taken by whoever stores the first block.
    pub id: SliceId,
    /// Number of the block in the slice.
    pub block: u32,
    pub bytes: Bytes,
    /// Pays for the bytes until they are stored.
    pub memory: Option<Permit>,
}

/// Bytes of a slice, or where they are.
#[derive(Debug)]
pub(crate) enum Held {
    /// Here.
    Bytes(Bytes),
    /// In a stored block: `len` bytes of it from `off`.
    Stored { id: u64, block: u32, block_len: u32, off: u32, len: u32 },
}

impl Slice {
    /// An empty slice at `pos` of `chunk`.
    pub(crate) fn new(number: u64, (chunk, pos): (u32, u32), block_size: u32, now: Instant) -> Slice {
        Slice {
            number,
            chunk,
            mtime: Time::default(),
            touched: now,
            failed: false,
            id: SliceId::default(),
            born: now,
            pos,
            len: 0,
            block_size,
            blocks: Vec::new(),
            sealed: 0,
            stored: 0,
            frozen: false,
        }
    }

    /// One past its last byte in the chunk.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.pos) + u64::from(self.len)
    }

    /// True if a write at `pos` of the chunk may go into this slice: into its open tail, or right behind it.
    pub(crate) fn takes(&self, pos: u32) -> bool {
        let open_from = u64::from(self.pos) + u64::from(self.sealed) * u64::from(self.block_size);
        !self.frozen && !self.failed && (open_from..=self.end()).contains(&u64::from(pos))
    }

    /// True if it holds bytes of `pos..pos + len`.
    pub(crate) fn overlaps(&self, pos: u32, len: u32) -> bool {
        u64::from(self.pos) < u64::from(pos) + u64::from(len) && u64::from(pos) < self.end()
    }

    /// When it is to be frozen, unless it is. One with a block on its way is not idle: its writer may wait for that memory.
    pub(crate) fn due(&self) -> Option<Instant> {
        let idle = (self.born + IDLE_MAX).max(self.touched + IDLE_MAX);
        let due = if self.stored < self.sealed { self.born + AGE_MAX } else { idle.min(self.born + AGE_MAX) };
        (!self.frozen && !self.failed).then_some(due)
    }

    /// True if every byte it will ever have is stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.frozen && self.stored as usize == self.blocks.len()
    }

    /// Takes `data` in at `pos`, where [`Slice::takes`] said yes; `memory` pays for the bytes that are new. Gives the blocks that
    /// are full now.
    pub(crate) fn put(&mut self, pos: u32, data: &[u8], memory: &mut Permit) -> Vec<Upload> {
        let (mut at, mut rest) = (pos - self.pos, data);
        while !rest.is_empty() {
            let inside = (at % self.block_size) as usize;
            let (now, later) = rest.split_at(rest.len().min(self.block_size as usize - inside));
            self.put_in_block(at / self.block_size, inside, now, memory);
            at += now.len() as u32;
            rest = later;
        }
        self.len = self.len.max(at);
        let full = self.len / self.block_size;
        let uploads = (self.sealed..full).filter_map(|block| self.seal(block)).collect();
        self.sealed = self.sealed.max(full);
        uploads
    }

    fn put_in_block(&mut self, block: u32, inside: usize, data: &[u8], memory: &mut Permit) {
        if self.blocks.len() <= block as usize {
            // Whoever has filled one block is likely to fill the next.
            let room = if block == 0 { data.len() } else { self.block_size as usize };
            self.blocks.push(Buffer::Open { bytes: BytesMut::with_capacity(room), memory: None });
        }
        let Buffer::Open { bytes, memory: held } = &mut self.blocks[block as usize] else {
            unreachable!("a slice takes writes in its open tail only");
        };
        let (over, new) = data.split_at(data.len().min(bytes.len() - inside));
        bytes[inside..inside + over.len()].copy_from_slice(over);
        bytes.extend_from_slice(new);
        let paid = memory.split(new.len() as u64);
        match held {
            Some(held) => held.merge(paid),
            None => *held = Some(paid),
        }
    }

    /// Hands a block out to be stored.
    fn seal(&mut self, block: u32) -> Option<Upload> {
        let buffer = self.blocks.get_mut(block as usize)?;
        let Buffer::Open { bytes, memory } = buffer else { return None };
        let (bytes, memory) = (std::mem::take(bytes).freeze(), memory.take());
        *buffer = Buffer::Sealed(bytes.clone());
        Some(Upload { number: self.number, id: Arc::clone(&self.id), block, bytes, memory })
    }

    /// Takes no more writes from now on; gives its last block, if that is not full.
    pub(crate) fn freeze(&mut self) -> Option<Upload> {
        if self.frozen || self.failed {
            return None;
        }
        self.frozen = true;
        let last = self.sealed;
        self.sealed = self.blocks.len() as u32;
        self.seal(last)
    }

    /// A block is in the object store.
    pub(crate) fn stored(&mut self, block: u32, now: Instant) {
        if let Some(buffer @ Buffer::Sealed(_)) = self.blocks.get_mut(block as usize) {
            *buffer = Buffer::Stored;
            self.stored += 1;
            self.touched = now;
        }
    }

    /// The record of all of it. Its id is 0 where none was taken.
    pub(crate) fn record(&self) -> SliceRecord {
        SliceRecord::whole(self.pos, self.id.get().copied().unwrap_or(0), self.len)
    }

    /// Gives the parts of `start..end` of the chunk that it holds, each with its place in the chunk.
    pub(crate) fn held(&self, start: u32, end: u32, mut give: impl FnMut(u32, Held)) {
        let stop = u64::from(end).min(self.end());
        let mut pos = start.max(self.pos);
        while u64::from(pos) < stop {
            let at = pos - self.pos;
            let (block, off) = (at / self.block_size, at % self.block_size);
            let len = (stop - u64::from(pos)).min(u64::from(self.block_size - off)) as u32;
            give(pos, self.held_in_block(block, off, len));
            pos += len;
        }
    }

    fn held_in_block(&self, block: u32, off: u32, len: u32) -> Held {
        let range = off as usize..(off + len) as usize;
        match &self.blocks[block as usize] {
            Buffer::Open { bytes, .. } => Held::Bytes(Bytes::copy_from_slice(&bytes[range])),
            Buffer::Sealed(bytes) => Held::Bytes(bytes.slice(range)),
            Buffer::Stored => {
                let block_len = self.block_size.min(self.len - block * self.block_size);
                Held::Stored { id: self.record().id, block, block_len, off, len }
            }
        }
    }
}
