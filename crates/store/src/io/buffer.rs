//! Page-aligned buffers for O_DIRECT, and the pool that recycles them.
//!
//! A buffer handed out as `Bytes` returns to the pool when its last reader drops it. Buffers of 1 MiB and more are mapped
//! 2 MiB-aligned with huge pages asked for: pinning 4 MiB for a transfer then touches 2 pages instead of 1024.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

/// Alignment of every buffer, file offset and length: covers 512-byte and 4 KiB sectors.
pub(crate) const ALIGN: usize = 4096;

/// Buffers of this many bytes and more are mapped instead of allocated.
const MAPPED_MIN: usize = 1 << 20;
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
}

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
        Pool(Arc::new(Shared { limit, idle: Mutex::default() }))
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
        let memory = recycled.unwrap_or_else(|| Memory::new(capacity));
        Buf { memory: Some(memory), len, home: Arc::clone(&self.0) }
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

    /// Address of its first byte, for a device that keeps the buffer until the transfer ended.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory().start.as_ptr()
    }
}

impl Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `Memory` is zeroed at birth and lives as long as `self`; `len <= capacity` by construction in `Pool::get`.
        unsafe { std::slice::from_raw_parts(self.memory().start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference: `Buf` owns its memory alone.
        unsafe { std::slice::from_raw_parts_mut(self.memory().start.as_ptr(), self.len) }
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
        let Some(memory) = self.memory.take() else { return };
        let mut idle = self.home.idle.lock();
        if idle.bytes + memory.capacity <= self.home.limit {
            idle.bytes += memory.capacity;
            idle.by_capacity.entry(memory.capacity).or_default().push(memory);
        }
    }
}

/// Page-aligned memory of fixed capacity.
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` is plain bytes owned by one `Buf` at a time; nothing in it is tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads; writing needs `&mut Buf`.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(capacity: usize) -> Memory {
        let start = if capacity >= MAPPED_MIN { map(capacity) } else { allocate(capacity) };
        Memory { start, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGN).expect("capacities are small multiples of the page")
    }
}

fn allocate(capacity: usize) -> NonNull<u8> {
    let layout = Memory::layout(capacity);
    // SAFETY: the layout is never of size zero: `Pool::get` rounds up to a page.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Anonymous zeroed memory that starts at a huge-page boundary.
fn map(capacity: usize) -> NonNull<u8> {
    let span = capacity + HUGE_PAGE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping touches no memory of ours.
    let raw = unsafe { libc::mmap(std::ptr::null_mut(), span, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if raw == libc::MAP_FAILED {
        handle_alloc_error(Memory::layout(capacity));
    }
    let front = (raw as usize).next_multiple_of(HUGE_PAGE) - raw as usize;
    let back = HUGE_PAGE - front;
    // SAFETY: both trimmed ranges and the advised one lie in the mapping just made, which nobody else knows; all bounds are
    // page-aligned because `capacity` is.
    unsafe {
        let start = raw.cast::<u8>().add(front);
        if front > 0 {
            libc::munmap(raw, front);
        }
        if back > 0 {
            libc::munmap(start.add(capacity).cast(), back);
        }
        // Best effort: without huge pages it is only slower.
        libc::madvise(start.cast(), capacity, libc::MADV_HUGEPAGE);
        NonNull::new(start).expect("mmap never returns page zero")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` and `capacity` are those of the mapping or allocation made in `new`, released once, here.
        unsafe {
            if self.capacity >= MAPPED_MIN {
                libc::munmap(self.start.as_ptr().cast(), self.capacity);
            } else {
                dealloc(self.start.as_ptr(), Memory::layout(self.capacity));
            }
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
    fn a_dropped_buffer_serves_the_next_of_its_size_within_the_limit() {
        let pool = Pool::new(8192);
        let (mut a, b, c) = (pool.get(4096), pool.get(4096), pool.get(4096));
        a[0] = 7;
        let address = a.as_ptr();
        drop((c, b, a));
        assert_eq!(pool.0.idle.lock().bytes, 8192, "the third found the pool full");
        let bytes = bytes::Bytes::from_owner(pool.get(10)).slice(0..1);
        assert_eq!(pool.0.idle.lock().bytes, 4096);
        drop(bytes);
        assert_eq!(pool.0.idle.lock().bytes, 8192);
        let _ = address;
    }
}
