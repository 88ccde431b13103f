//! skeleton
use crate::error::FormatError;
use crate::settings::Settings;
use bytes::Bytes;
/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One raw LZ4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
}
/// Turns plain blocks into stored ones and back.
#[derive(Debug, Clone)]
pub struct BlockCodec;
#[allow(unused_variables, reason = "skeleton")]
impl BlockCodec {
    /// Stored bytes are plain bytes.
    pub fn identity() -> BlockCodec {
        unimplemented!()
    }
    /// True if stored bytes are plain bytes.
    pub fn is_identity(&self) -> bool {
        unimplemented!()
    }
    /// Plain bytes of a stored block.
    pub fn decode(&self, stored: Bytes, plain_len: u32) -> Result<Bytes, FormatError> {
        unimplemented!()
    }
    /// Stored bytes of a plain block.
    pub fn encode(&self, plain: Bytes) -> Result<Bytes, FormatError> {
        unimplemented!()
    }
    /// Cipher only.
    pub fn encrypt_object(&self, plain: Bytes) -> Result<Bytes, FormatError> {
        unimplemented!()
    }
    /// Cipher only.
    pub fn decrypt_object(&self, stored: Bytes) -> Result<Bytes, FormatError> {
        unimplemented!()
    }
}
impl Settings {
    /// Codec of the volume's blocks.
    pub fn codec(&self, passphrase: Option<&str>) -> Result<BlockCodec, FormatError> {
        let _ = passphrase;
        unimplemented!()
    }
}
