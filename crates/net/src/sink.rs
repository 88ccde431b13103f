//! Where a handler writes its answer.

use bytes::Bytes;
use shoal_wire::{GetHead, Response, Status};

use crate::error::NetError;

/// The answer to a get.
pub struct GetSink(());

impl GetSink {
    /// Sends the head.
    pub async fn head(&mut self, _head: GetHead) -> Result<(), NetError> {
        unimplemented!()
    }

    /// Sends the next bytes of the body.
    pub async fn send(&mut self, _bytes: Bytes) -> Result<(), NetError> {
        unimplemented!()
    }

    /// Refuses, or breaks off.
    pub async fn fail(&mut self, _status: Status, _message: impl Into<String>) {
        unimplemented!()
    }
}

/// The answer to a control request.
pub struct ResponseSink(());

impl ResponseSink {
    /// Sends one response.
    pub async fn send(&mut self, _response: Response) -> Result<(), NetError> {
        unimplemented!()
    }
}
