//! Page-aligned buffers for O_DIRECT, and the pool that recycles them.
//!
//! A buffer handed out as `Bytes` returns to the pool when its last reader drops it. All memory is mapped in huge pages where the
//! kernel grants them, small buffers are carved from 2 MiB of it: what is contiguous in memory is one segment to the device. Measured on
//! virtio (254 segments to a request), raw io_uring, depth 32: 4 MiB reads 1.2 -> 3.5 GB/s, 128 KiB reads 1.0 -> 2.7 GB/s.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

/// Alignment of every buffer, file offset and length: covers 512-byte and 4 KiB sectors.
pub(crate) const ALIGN: usize = 4096;

/// Buffers of this many bytes and more have a mapping of their own; smaller ones share one.
pub(crate) const OWN_MAPPING_MIN: usize = 1 << 20;
const HUGE_PAGE: usize = 2 << 20;

/// `n` rounded up to a multiple of [`ALIGN`].
pub(crate) const fn align_up(n: usize) -> usize {
    n.next_multiple_of(ALIGN)
}

/// Recycles buffers; clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    /// Most bytes kept idle.
    limit: usize,
    idle: Mutex<Idle>,
    mapped: Arc<Mapped>,
}

/// Length of each living mapping of a pool, by its first address.
type Mapped = Mutex<BTreeMap<usize, usize>>;

#[derive(Default)]
struct Idle {
    bytes: usize,
    by_capacity: BTreeMap<usize, Vec<Memory>>,
}

/// A page-aligned buffer whose length is a multiple of [`ALIGN`]. Recycled ones hold old bytes.
pub(crate) struct Buf {
    memory: Option<Memory>,
    len: usize,
    home: Arc<Shared>,
}

impl Pool {
    /// A pool that keeps at most `limit` idle bytes.
    pub(crate) fn new(limit: u64) -> Pool {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Pool(Arc::new(Shared { limit, idle: Mutex::default(), mapped: Arc::default() }))
    }

    /// A buffer of at least `len` bytes, rounded up to whole pages. Its contents are unspecified.
    pub(crate) fn get(&self, len: usize) -> Buf {
        let len = align_up(len.max(1));
        let capacity = capacity_for(len);
        let recycled = {
            let mut idle = self.0.idle.lock();
            let memory = idle.by_capacity.get_mut(&capacity).and_then(Vec::pop);
            if memory.is_some() {
                idle.bytes -= capacity;
            }
            memory
        };
        let memory = recycled.unwrap_or_else(|| self.map(capacity));
        Buf { memory: Some(memory), len, home: Arc::clone(&self.0) }
    }

    /// Whether `bytes` lie in memory of the pool. Not empty.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let start = bytes.as_ptr() as usize;
        let mapped = self.0.mapped.lock();
        mapped.range(..=start).next_back().is_some_and(|(first, len)| start + bytes.len() <= first + len)
    }

    /// New memory of `capacity`; what else was carved from the same mapping becomes idle.
    fn map(&self, capacity: usize) -> Memory {
        let bytes = if capacity >= OWN_MAPPING_MIN { capacity } else { HUGE_PAGE };
        let mapping = Arc::new(Mapping::new(bytes, &self.0.mapped));
        let piece =
            |n: usize| Memory { mapping: Arc::clone(&mapping), offset: n * capacity, capacity, whole: capacity };
        (1..bytes / capacity).for_each(|n| self.0.keep(piece(n)));
        piece(0)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle_bytes", &self.0.idle.lock().bytes).finish_non_exhaustive()
    }
}

/// Capacity of the buffer that serves `len` bytes: four steps to each power of two, so at most a quarter is unused.
fn capacity_for(len: usize) -> usize {
    let pages = len / ALIGN;
    if pages <= 4 {
        return pages * ALIGN;
    }
    let step = 1usize << ((pages - 1).ilog2() - 2);
    pages.next_multiple_of(step) * ALIGN
}

impl Buf {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("taken only by drop")
    }

    /// Bytes of memory it occupies.
    pub(crate) fn capacity(&self) -> usize {
        self.memory().capacity
    }

    /// The first `len` bytes, a multiple of [`ALIGN`], and the rest, if there are more. Parts that are not joined again are unmapped instead
    /// of recycled.
    pub(crate) fn split(mut self, len: usize) -> (Buf, Option<Buf>) {
        if len >= self.len {
            return (self, None);
        }
        assert!(len.is_multiple_of(ALIGN), "a part is whole pages");
        let Memory { mapping, offset, capacity, whole } = self.memory.take().expect("taken only by drop");
        let rest = Memory { mapping: Arc::clone(&mapping), offset: offset + len, capacity: capacity - len, whole };
        let first = Memory { mapping, offset, capacity: len, whole };
        let home = Arc::clone(&self.home);
        let rest = Buf { memory: Some(rest), len: self.len - len, home: Arc::clone(&home) };
        (Buf { memory: Some(first), len, home }, Some(rest))
    }

    /// The inverse of [`Buf::split`].
    pub(crate) fn join(mut self, mut rest: Buf) -> Buf {
        let (Some(first), Some(second)) = (self.memory.take(), rest.memory.take()) else {
            unreachable!("taken only by drop")
        };
        let neighbours = Arc::ptr_eq(&first.mapping, &second.mapping) && first.offset + first.capacity == second.offset;
        assert!(neighbours && self.len == first.capacity, "only what was split is joined");
        let memory = Memory { capacity: first.capacity + second.capacity, ..first };
        Buf { memory: Some(memory), len: self.len + rest.len, home: Arc::clone(&self.home) }
    }

    /// Address of its first byte, for a device that keeps the buffer until the transfer ended.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory().start()
    }
}

impl Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: a mapping is zeroed at birth and lives as long as `self`; `len <= capacity` by construction in `Pool::get`.
        unsafe { std::slice::from_raw_parts(self.memory().start(), self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference: `Buf` owns its memory alone.
        unsafe { std::slice::from_raw_parts_mut(self.memory().start(), self.len) }
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take().filter(|memory| memory.capacity == memory.whole) {
            self.home.keep(memory);
        }
    }
}

impl Shared {
    /// Keeps memory for the next buffer, if there is not too much already.
    fn keep(&self, memory: Memory) {
        let mut idle = self.idle.lock();
        if idle.bytes + memory.capacity <= self.limit {
            idle.bytes += memory.capacity;
            idle.by_capacity.entry(memory.capacity).or_default().push(memory);
        }
    }
}

/// A page-aligned part of a mapping, owned by one `Buf` at a time.
struct Memory {
    mapping: Arc<Mapping>,
    offset: usize,
    capacity: usize,
    /// Its capacity before it was split.
    whole: usize,
}

impl Memory {
    fn start(&self) -> *mut u8 {
        // SAFETY: parts are cut so that `offset + capacity` is within the mapping.
        unsafe { self.mapping.start.as_ptr().add(self.offset) }
    }
}

/// Anonymous memory that starts at a huge-page boundary; zeroed at birth, returned to the system by drop.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    /// Lists this mapping from its birth to its end.
    mapped: Arc<Mapped>,
}

// SAFETY: a mapping is plain bytes; nothing in it is tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping gives out only its address; who may use which part is decided by `Memory`, which does not overlap others.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize, mapped: &Arc<Mapped>) -> Mapping {
        let span = bytes + HUGE_PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping touches no memory of ours.
        let raw = unsafe { libc::mmap(std::ptr::null_mut(), span, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if raw == libc::MAP_FAILED {
            handle_alloc_error(Layout::from_size_align(bytes, ALIGN).unwrap_or(Layout::new::<u8>()));
        }
        let front = (raw as usize).next_multiple_of(HUGE_PAGE) - raw as usize;
        let back = HUGE_PAGE - front;
        // SAFETY: both trimmed ranges and the advised one lie in the mapping just made, which nobody else knows; all bounds are
        // page-aligned because `bytes` is.
        let start = unsafe {
            let start = raw.cast::<u8>().add(front);
            if front > 0 {
                libc::munmap(raw, front);
            }
            if back > 0 {
                libc::munmap(start.add(bytes).cast(), back);
            }
            // Best effort: without huge pages it is only slower.
            libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
            NonNull::new(start).expect("mmap never returns page zero")
        };
        mapped.lock().insert(start.as_ptr() as usize, bytes);
        Mapping { start, bytes, mapped: Arc::clone(mapped) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the address may be given out again.
        self.mapped.lock().remove(&(self.start.as_ptr() as usize));
        // SAFETY: `start` and `bytes` are those of the mapping made in `new`; every `Memory` in it is gone, for each holds an `Arc`.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_large_enough() {
        let pool = Pool::new(0);
        for len in [1, 4096, 4097, 100 << 10, (4 << 20) + 4096, 17 << 20] {
            let buf = pool.get(len);
            assert!(buf.len() >= len && buf.len().is_multiple_of(ALIGN) && buf.capacity() >= buf.len(), "{len}");
            assert_eq!(buf.as_ptr() as usize % ALIGN, 0, "{len}");
            assert!(buf.iter().all(|&byte| byte == 0));
            assert!(buf.capacity() <= buf.len() + buf.len() / 4 + ALIGN, "{len} took {}", buf.capacity());
        }
    }

    #[test]
    fn dropped_buffers_serve_the_next_of_their_size_within_the_limit() {
        let pool = Pool::new(2 << 20);
        let idle = || pool.0.idle.lock().bytes;
        let (a, b, c) = (pool.get(1 << 20), pool.get(1 << 20), pool.get(1 << 20));
        drop((c, b, a));
        assert_eq!(idle(), 2 << 20, "the third found the pool full");
        let bytes = bytes::Bytes::from_owner(pool.get(1 << 20)).slice(0..1);
        assert_eq!(idle(), 1 << 20);
        drop(bytes);
        assert_eq!(idle(), 2 << 20);
    }

    #[test]
    fn parts_are_joined_to_what_they_were_and_a_lost_part_is_not_recycled() {
        let pool = Pool::new(64 << 20);
        let idle = || pool.0.idle.lock().bytes;
        let mut buf = pool.get((4 << 20) + 4096);
        let capacity = buf.capacity();
        buf.fill(7);
        let (a, rest) = buf.split(1 << 20);
        let (b, c) = rest.unwrap().split(1 << 20);
        let c = c.unwrap();
        assert_eq!((a.len(), b.len(), c.len()), (1 << 20, 1 << 20, (2 << 20) + 4096));
        let whole = a.join(b).join(c);
        assert!(whole.len() == (4 << 20) + 4096 && whole.iter().all(|&byte| byte == 7) && idle() == 0);
        drop(whole);
        assert_eq!(idle(), capacity);
        let (a, rest) = pool.get((4 << 20) + 4096).split(1 << 20);
        drop((rest, a));
        assert_eq!(idle(), 0);
        let (whole, none) = pool.get(4096).split(8192);
        assert!(whole.len() == 4096 && none.is_none());
    }

    #[test]
    fn a_pool_knows_its_own_memory_and_only_while_it_lives() {
        let pool = Pool::new(0);
        let (small, large) = (pool.get(5000), pool.get(3 << 20));
        let bytes = bytes::Bytes::from_owner(small).slice(100..300);
        assert!(pool.holds(&large) && pool.holds(&large[1 << 20..]) && pool.holds(&bytes));
        assert!(!pool.holds(&[7; 100]) && !Pool::new(0).holds(&large));
        drop((large, bytes));
        assert!(pool.0.mapped.lock().is_empty());
    }

    #[test]
    fn small_buffers_are_carved_from_one_mapping_and_do_not_overlap() {
        let pool = Pool::new(4 << 20);
        let mut bufs: Vec<_> = (0..16).map(|_| pool.get(128 << 10)).collect();
        assert!(pool.0.idle.lock().bytes == 0, "sixteen of 128 KiB are one huge page");
        for (n, buf) in bufs.iter_mut().enumerate() {
            buf.fill(n as u8 + 1);
        }
        assert!(bufs.iter().enumerate().all(|(n, buf)| buf.iter().all(|&byte| byte == n as u8 + 1)));
        drop(pool);
        bufs.truncate(3);
        assert!(bufs[2].iter().all(|&byte| byte == 3), "what is in use stays mapped");
    }
}
