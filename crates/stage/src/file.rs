//! The bytes of a staged file, and what its name says (spec section 5). Pure.
//!
//! A block's plain bytes, followed by the CRC-32C of every 32 KiB of them, big-endian. Real clients may leave the checksums out, or
//! add a footer behind them.

use std::ops::Range;

use bytes::Bytes;
use shoal_types::checksum::crc32c;

/// Bytes under one checksum.
pub(crate) const SEGMENT: usize = 32 << 10;
/// Bytes of a checksum.
const SUM: usize = 4;
/// Largest block there is, in bytes (spec section 2): a name that says more is none of a block.
const BLOCK_BYTES_MAX: u32 = 16 << 20;

/// The checksums of a block, as they follow it.
pub(crate) fn checksums(plain: &[u8]) -> Vec<u8> {
    plain.chunks(SEGMENT).flat_map(|segment| crc32c(segment).to_be_bytes()).collect()
}

/// Length of the checksums of a block.
pub(crate) fn checksums_len(plain_len: u32) -> usize {
    (plain_len as usize).div_ceil(SEGMENT) * SUM
}

/// Plain bytes of the block named `key` (`.../<slice>_<index>_<bytes>`); `None` for what is no block's name.
pub(crate) fn plain_len(key: &str) -> Option<u32> {
    let name = key.rsplit('/').next()?;
    let mut numbers = name.split('_').map(|part| part.parse::<u64>().ok());
    let (_slice, _index, len) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let len = u32::try_from(len).ok().filter(|len| (1..=BLOCK_BYTES_MAX).contains(len))?;
    numbers.next().is_none().then_some(len)
}

/// The span of whole segments around `range` of a block.
pub(crate) fn segments(range: &Range<u32>, plain_len: u32) -> Range<u32> {
    let segment = SEGMENT as u32;
    range.start / segment * segment..range.end.next_multiple_of(segment).min(plain_len)
}

/// True if `bytes`, whole segments of a block, have these checksums.
pub(crate) fn is_intact(bytes: &[u8], checksums: &[u8]) -> bool {
    let sums = checksums.chunks_exact(SUM);
    sums.len() == bytes.len().div_ceil(SEGMENT)
        && bytes.chunks(SEGMENT).zip(sums).all(|(segment, sum)| crc32c(segment).to_be_bytes() == sum)
}

/// Where the checksums of segments `span` lie in the file.
pub(crate) fn checksums_at(span: &Range<u32>, plain_len: u32) -> (u64, usize) {
    let first = span.start as usize / SEGMENT;
    (u64::from(plain_len) + (first * SUM) as u64, (span.len()).div_ceil(SEGMENT) * SUM)
}

/// `range` of `bytes`, which begin at `base` of the block.
pub(crate) fn cut(bytes: Vec<u8>, base: u32, range: &Range<u32>) -> Bytes {
    Bytes::from(bytes).slice((range.start - base) as usize..(range.end - base) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_long_as_real_clients_write_it() {
        // Spec section 5: 95,600 bytes have 12 of checksums, 12 bytes 4.
        assert_eq!((checksums_len(95_600), checksums_len(12)), (12, 4));
        assert_eq!(checksums(&vec![7; 95_600]).len(), 12);
    }

    #[test]
    fn names_say_how_long_a_block_is() {
        assert_eq!(plain_len("vol/chunks/0/0/1_0_95600"), Some(95_600));
        for name in ["vol/chunks/0/0/1_0", "a_b_c", "1_0_0", "1_0_5.tmp", "1_2_3_4", "1_0_99999999", ""] {
            assert_eq!(plain_len(name), None, "{name}");
        }
    }

    #[test]
    fn a_part_is_checked_with_the_segments_around_it() {
        let plain: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
        let sums = checksums(&plain);
        let range = 40_000..70_000;
        let span = segments(&range, 100_000);
        assert_eq!(span, 32_768..98_304);
        let (at, len) = checksums_at(&span, 100_000);
        assert_eq!((at, len), (100_004, 8));
        let from = (at - 100_000) as usize;
        let mut bytes = plain[32_768..98_304].to_vec();
        assert!(is_intact(&bytes, &sums[from..from + len]));
        assert_eq!(cut(bytes.clone(), span.start, &range), plain[40_000..70_000]);
        bytes[5] ^= 1;
        assert!(!is_intact(&bytes, &sums[from..from + len]));
        assert_eq!(segments(&(99_000..100_000), 100_000), 98_304..100_000);
    }
}
