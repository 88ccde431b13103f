//! The seam between the slab engine and the ways of doing I/O: io_uring, plain threads, and the fault device of tests.

use std::fmt;
use std::io;

use tokio::sync::oneshot;

use super::buffer::Buf;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// File to buffer.
    Read,
    /// Buffer to file.
    Write,
}

/// Told how a transfer ended; runs on an I/O thread, so it must be short and never block.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>, Buf) + Send>;

/// One transfer of a whole buffer at a page-aligned file offset.
pub(crate) struct Request {
    pub(crate) op: Op,
    pub(crate) offset: u64,
    pub(crate) buf: Buf,
    pub(crate) done: Done,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { op, offset, buf, .. } = self;
        f.debug_struct("Request").field("op", op).field("offset", offset).field("len", &buf.len()).finish()
    }
}

/// A file that transfers buffers. Every request's `done` is called exactly once unless the I/O thread dies, in which case it is
/// dropped. Callers bound the number of requests.
pub(crate) trait Device: Send + Sync + fmt::Debug {
    /// Starts a transfer; never blocks on the transfer itself.
    fn submit(&self, request: Request);
}

/// Fills `buf` from `offset`. Dropping the future leaves the transfer to the device, which then frees the buffer.
pub(crate) async fn read(device: &dyn Device, offset: u64, buf: Buf) -> io::Result<Buf> {
    let (tell, told) = oneshot::channel();
    let done: Done = Box::new(move |result, buf| {
        // Nobody waits any more: the buffer returns to its pool.
        let _ = tell.send(result.map(|()| buf));
    });
    device.submit(Request { op: Op::Read, offset, buf, done });
    told.await.unwrap_or_else(|_| Err(ended()))
}

/// What a request meets once its I/O thread is gone.
pub(crate) fn ended() -> io::Error {
    io::Error::other("the I/O thread ended")
}
