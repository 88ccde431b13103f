//! Stored form of a data block: compressed, then encrypted, as the volume's setting says.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::FormatError;
use crate::object_cipher::ObjectCipher;
use crate::settings::Settings;

/// How blocks are compressed. Nothing in a block says so: with compression on, every block is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One raw LZ4 block, without frame or length.
    Lz4,
    /// One zstd frame, level 1.
    Zstd,
}

/// Most plain bytes of a block: the format's largest block size.
const MAX_PLAIN_LEN: usize = 16 << 20;

/// Level at which real clients compress.
const ZSTD_LEVEL: i32 = 1;

impl Compression {
    /// The compression with this name in a setting.
    pub fn parse(name: &str) -> Option<Compression> {
        Some(match name.to_ascii_lowercase().as_str() {
            "" | "none" => Compression::None,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => return None,
        })
    }

    /// Most bytes that `plain_len` plain bytes become.
    fn max_len(self, plain_len: usize) -> usize {
        match self {
            Compression::None => plain_len,
            // The bounds of the C libraries, which real clients link.
            Compression::Lz4 => plain_len + plain_len / 255 + 16,
            Compression::Zstd => zstd::zstd_safe::compress_bound(plain_len),
        }
    }
}

/// Turns plain blocks into stored ones and back.
///
/// Cheap to clone; shares only immutable keys, so threads decode in parallel. One call on an encrypted volume costs one
/// RSA private operation (about 0.6 ms with a 2048-bit key) besides the pass over the bytes: run many at once, off the I/O threads.
#[derive(Debug, Clone)]
pub struct BlockCodec {
    compression: Compression,
    cipher: Option<Arc<ObjectCipher>>,
}

impl Settings {
    /// The codec of the volume's blocks. `passphrase` opens a protected private key; real clients take it from the
    /// environment variable `JFS_RSA_PASSPHRASE`.
    ///
    /// Errors: `Denied` for a missing or wrong passphrase; `Invalid` for an algorithm or a key we cannot use.
    pub fn codec(&self, passphrase: Option<&str>) -> Result<BlockCodec, FormatError> {
        let compression = Compression::parse(&self.compression).ok_or_else(|| FormatError::Algorithm {
            volume: self.name.clone(),
            what: "compression",
            name: self.compression.clone(),
        })?;
        let cipher = match self.encrypt_key()? {
            Some(pem) => Some(Arc::new(ObjectCipher::new(&self.name, &self.encrypt_algo, &pem, passphrase)?)),
            None => None,
        };
        Ok(BlockCodec { compression, cipher })
    }
}

impl BlockCodec {
    /// The codec whose stored bytes are the plain bytes.
    pub fn identity() -> BlockCodec {
        BlockCodec { compression: Compression::None, cipher: None }
    }

    /// True if stored bytes are the plain bytes, so that a part of a block can be read alone.
    pub fn is_identity(&self) -> bool {
        self.compression == Compression::None && self.cipher.is_none()
    }

    /// Most bytes that a block of `plain_len` plain bytes can take when stored.
    pub fn max_stored_len(&self, plain_len: u32) -> u64 {
        let compressed = self.compression.max_len(plain_len as usize);
        (compressed + self.cipher.as_ref().map_or(0, |cipher| cipher.overhead())) as u64
    }

    /// The plain bytes of a stored block, exactly `plain_len` of them.
    ///
    /// Allocates at most `plain_len` bytes and one copy of `stored`; no copy at all where nothing is compressed and
    /// nobody else holds `stored`. Errors: `Corrupt` if the block does not decode to `plain_len` bytes; `Invalid` for a
    /// `plain_len` no block has.
    pub fn decode(&self, stored: Bytes, plain_len: u32) -> Result<Bytes, FormatError> {
        check_len(plain_len as usize)?;
        let stored_len = stored.len();
        let corrupt = |reason| FormatError::Block { stored_len, plain_len: plain_len as usize, reason };
        let compressed = self.decrypt_object(stored)?;
        let plain = match self.compression {
            Compression::None => Some(compressed),
            Compression::Lz4 => decompress_lz4(&compressed, plain_len as usize),
            Compression::Zstd => decompress_zstd(&compressed, plain_len as usize),
        };
        let plain = plain.ok_or_else(|| corrupt("it does not decompress"))?;
        if plain.len() == plain_len as usize { Ok(plain) } else { Err(corrupt("its plain length is another")) }
    }

    /// The stored bytes of a plain block.
    ///
    /// Errors: `Invalid` for more bytes than a block may have.
    pub fn encode(&self, plain: Bytes) -> Result<Bytes, FormatError> {
        check_len(plain.len())?;
        let compressed = match self.compression {
            Compression::None => plain,
            Compression::Lz4 => lz4_flex::block::compress(&plain).into(),
            Compression::Zstd => match zstd::bulk::compress(&plain, ZSTD_LEVEL) {
                Ok(compressed) => compressed.into(),
                Err(_) => return Err(FormatError::Library { what: "compressing a block" }),
            },
        };
        self.encrypt_object(compressed)
    }

    /// The stored bytes of an object that is no data block, such as `juicefs_uuid`: encrypted, never compressed.
    pub fn encrypt_object(&self, plain: Bytes) -> Result<Bytes, FormatError> {
        match &self.cipher {
            Some(cipher) => cipher.encrypt(&plain),
            None => Ok(plain),
        }
    }

    /// The plain bytes of an object that is no data block. Errors: `Corrupt` if it does not decrypt.
    pub fn decrypt_object(&self, stored: Bytes) -> Result<Bytes, FormatError> {
        match &self.cipher {
            Some(cipher) => cipher.decrypt(stored),
            None => Ok(stored),
        }
    }
}

fn check_len(len: usize) -> Result<(), FormatError> {
    if len > MAX_PLAIN_LEN { Err(FormatError::BlockTooLarge { len, max: MAX_PLAIN_LEN }) } else { Ok(()) }
}

fn decompress_lz4(compressed: &[u8], plain_len: usize) -> Option<Bytes> {
    let mut plain = vec![0; plain_len];
    let len = lz4_flex::block::decompress_into(compressed, &mut plain).ok()?;
    plain.truncate(len);
    Some(plain.into())
}

fn decompress_zstd(compressed: &[u8], plain_len: usize) -> Option<Bytes> {
    let mut plain = Vec::with_capacity(plain_len);
    // Fills at most the capacity; a frame that holds more is an error.
    zstd::bulk::Decompressor::new().ok()?.decompress_to_buffer(compressed, &mut plain).ok()?;
    Some(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(compression: Compression) -> BlockCodec {
        BlockCodec { compression, cipher: None }
    }

    #[test]
    fn golden_lz4_block() {
        let golden = b"\xC0hello world\n";
        let plain = Bytes::from_static(b"hello world\n");
        assert_eq!(codec(Compression::Lz4).encode(plain.clone()).unwrap()[..], golden[..]);
        assert_eq!(codec(Compression::Lz4).decode(Bytes::from_static(golden), 12).unwrap(), plain);
    }

    #[test]
    fn zstd_frames_carry_their_size_and_no_checksum() {
        let stored = codec(Compression::Zstd).encode(Bytes::from(vec![7; 1000])).unwrap();
        assert_eq!(stored[..4], [0x28, 0xB5, 0x2F, 0xFD]);
        // Frame header descriptor, RFC 8878 3.1.1.1.1: bit 2 is the checksum flag, bits 6-7 the size field's length.
        assert_eq!(stored[4] & 0x04, 0);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&stored).unwrap(), Some(1000));
    }

    #[test]
    fn a_wrong_length_is_corrupt() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let codec = codec(compression);
            let stored = codec.encode(Bytes::from(vec![7; 1000])).unwrap();
            assert_eq!(codec.decode(stored.clone(), 1000).unwrap(), vec![7; 1000]);
            for plain_len in [0, 1, 999, 1001, 2000] {
                let error = codec.decode(stored.clone(), plain_len).unwrap_err();
                assert_eq!(error.kind(), shoal_types::ErrorKind::Corrupt, "{compression:?} {plain_len}");
            }
            assert!(codec.decode(stored, u32::MAX).is_err());
        }
    }

    #[test]
    fn identity_hands_bytes_through() {
        let plain = Bytes::from(vec![1; 100]);
        let codec = BlockCodec::identity();
        assert!(codec.is_identity());
        assert_eq!(codec.decode(plain.clone(), 100).unwrap().as_ptr(), plain.as_ptr());
        assert_eq!(codec.encode(plain.clone()).unwrap().as_ptr(), plain.as_ptr());
    }

    #[test]
    fn unknown_algorithms_are_refused_by_name() {
        let mut settings = Settings::new("vol", "u");
        settings.compression = "brotli".into();
        assert!(settings.codec(None).unwrap_err().to_string().contains("compression `brotli`"));
        settings.compression = "zstd".into();
        assert!(!settings.codec(None).unwrap().is_identity());
    }
}
