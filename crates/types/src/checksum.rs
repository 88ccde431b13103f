//! CRC-32C (Castagnoli), the checksum of every page at rest and of every chunk on the wire.
//!
//! Hardware folding through `crc-fast`: measured at memory speed (53 GB/s a core), so it is always on. Checksums of neighbours combine
//! without their bytes: `crc(a + b) = crc(a) * x^(8 * len(b)) + crc(b)` in GF(2)\[x\] modulo the polynomial, as in zlib's `crc32_combine`.

use std::sync::OnceLock;

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(Crc32Iscsi, bytes) as u32
}

/// CRC-32C of bytes that come in pieces.
#[derive(Clone, Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// The checksum of no bytes yet.
    pub fn new() -> Crc32c {
        Crc32c(crc_fast::Digest::new(Crc32Iscsi))
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The checksum of all pieces so far.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

/// CRC-32C of `a` followed by `b`, from CRC-32C of both and the length of `b`. Some 0.1 us.
pub fn combine(a: u32, b: u32, b_len: u32) -> u32 {
    times(power(b_len), a) ^ b
}

/// [`combine`] for pieces that all have the same length of 2^`log2` bytes: four look-ups in a table of 4 KiB that is made at first use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Append(&'static [[u32; 256]; 4]);

impl Append {
    /// The operator for pieces of 2^`log2` bytes, `log2` below 32.
    pub(crate) fn of(log2: u32) -> Append {
        static TABLES: [OnceLock<Box<[[u32; 256]; 4]>>; 32] = [const { OnceLock::new() }; 32];
        Append(TABLES[log2 as usize].get_or_init(|| {
            let factor = power(1 << log2);
            let mut table = Box::new([[0; 256]; 4]);
            for (byte, entries) in table.iter_mut().enumerate() {
                for (value, entry) in entries.iter_mut().enumerate() {
                    *entry = times(factor, (value as u32) << (8 * byte));
                }
            }
            table
        }))
    }

    /// CRC-32C of what `a` is of followed by a piece with checksum `b`.
    pub(crate) fn append(self, a: u32, b: u32) -> u32 {
        let [b0, b1, b2, b3] = a.to_le_bytes().map(usize::from);
        self.0[0][b0] ^ self.0[1][b1] ^ self.0[2][b2] ^ self.0[3][b3] ^ b
    }
}

/// The polynomial without its highest power, the lowest power in the highest bit, as everywhere here.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^(2^n) modulo the polynomial: 35 of them are enough for x^(8 * (2^32 - 1)).
const SQUARES: [u32; 35] = {
    let mut squares = [1 << 30; 35];
    let mut n = 1;
    while n < squares.len() {
        squares[n] = times(squares[n - 1], squares[n - 1]);
        n += 1;
    }
    squares
};

/// Product modulo the polynomial.
const fn times(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit >>= 1;
    }
    product
}

/// x^(8 * bytes) modulo the polynomial.
fn power(bytes: u32) -> u32 {
    let mut product = 1 << 31;
    for bit in 0..32 {
        if bytes >> bit & 1 == 1 {
            product = times(SQUARES[bit + 3], product);
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_sum_up_to_the_whole() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let mut crc = Crc32c::new();
        assert_eq!(crc.value(), crc32c(&[]));
        for piece in [&bytes[..1], &bytes[1..300], &bytes[300..300], &bytes[300..]] {
            crc.update(piece);
        }
        assert_eq!(crc.value(), crc32c(&bytes));
    }

    #[test]
    fn matches_the_published_check_value() {
        // RFC 3720 appendix B.4 and the CRC catalogue: CRC-32C of "123456789".
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0u8; 32]), 0x8a91_36aa);
    }

    #[test]
    fn checksums_of_neighbours_combine_wherever_the_cut_is() {
        let bytes: Vec<u8> = (0..70_000u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
        for cut in [0, 1, 2, 63, 4096, 16_384, 65_536, 69_999, 70_000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(combine(crc32c(a), crc32c(b), b.len() as u32), crc32c(&bytes), "cut at {cut}");
        }
        let append = Append::of(12);
        let pages = bytes[..65_536].chunks(4096);
        assert_eq!(pages.map(crc32c).fold(0, |sum, page| append.append(sum, page)), crc32c(&bytes[..65_536]));
    }
}
