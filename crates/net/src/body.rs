//! What a caller reads.

use bytes::Bytes;
use shoal_wire::{GetHead, Response};

use crate::error::NetError;

/// Answer to a get.
#[derive(Debug)]
pub struct GetReply {
    /// Its head.
    pub head: GetHead,
    /// Its bytes.
    pub body: Body,
}

/// Bytes of a block as they arrive.
#[derive(Debug)]
pub struct Body(());

impl Body {
    /// The next verified bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NetError> {
        unimplemented!()
    }

    /// All of them.
    pub async fn collect(self) -> Result<Bytes, NetError> {
        unimplemented!()
    }

    /// All of them, into `buffer`, which has exactly the body's length.
    pub async fn read_into(self, _buffer: &mut [u8]) -> Result<(), NetError> {
        unimplemented!()
    }
}

/// Responses to a control request as they arrive.
#[derive(Debug)]
pub struct ResponseStream(());

impl ResponseStream {
    /// The next response, `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Response>, NetError> {
        unimplemented!()
    }
}
