//! Page-aligned memory, which `O_DIRECT` asks for.

use std::ops::{Deref, DerefMut};

/// Alignment of [`Aligned`] in bytes: a page, and a multiple of every sector size in use.
pub const ALIGNMENT: usize = 4096;

/// A buffer whose first byte lies at a multiple of [`ALIGNMENT`]. Never moves its bytes.
#[derive(Debug)]
pub struct Aligned {
    /// Longer than asked for by up to one alignment.
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Aligned {
        let memory = vec![0; len + ALIGNMENT].into_boxed_slice();
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        assert!(start <= ALIGNMENT, "byte pointers can be aligned to any power of two");
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
        for len in [0, 1, 4096, 100_000] {
            let buffer = Aligned::seeded(1, len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        }
    }
}
