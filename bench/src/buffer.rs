//! Page-aligned memory, which `O_DIRECT` asks for; large buffers are in huge pages, as the store's are: what is contiguous in memory is
//! one segment to the device, and a limit measured in small pages would be too low (4 MiB reads on virtio: by half and more).

use std::ops::{Deref, DerefMut};

use rustix::mm::{Advice, madvise};

/// Alignment of [`Aligned`] in bytes: a page, and a multiple of every sector size in use.
pub const ALIGNMENT: usize = 4096;

/// Buffers of at least this many bytes start at a multiple of it and ask for huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// A buffer whose first byte lies at a multiple of [`ALIGNMENT`]. Never moves its bytes.
#[derive(Debug)]
pub struct Aligned {
    /// Longer than asked for by one alignment.
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Aligned {
        let alignment = if len < HUGE_PAGE { ALIGNMENT } else { HUGE_PAGE };
        let mut memory = vec![0; len + alignment].into_boxed_slice();
        let start = memory.as_ptr().align_offset(alignment);
        assert!(start <= alignment, "byte pointers can be aligned to any power of two");
        if alignment == HUGE_PAGE {
            // SAFETY: the range lies in `memory`, and this advice changes nothing of its bytes. Without huge pages it is only slower.
            let _ = unsafe { madvise(memory[start..].as_mut_ptr().cast(), len, Advice::LinuxHugepage) };
        }
        Aligned { memory, start, len }
    }

    /// `len` bytes that depend on `seed` alone and do not compress.
    pub fn seeded(seed: u64, len: usize) -> Aligned {
        let mut buffer = Aligned::zeroed(len);
        shoal_testkit::Rng::new(seed).fill(&mut buffer);
        buffer
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_has_its_length() {
        for len in [0, 1, 4096, 100_000, 5 << 20] {
            let buffer = Aligned::seeded(1, len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        }
    }
}
