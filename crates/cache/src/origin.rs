//! A block's bytes from the object store: one request, checked lengths, a bound on silence.

use std::time::Duration;

use bytes::Bytes;
use shoal_object::{ObjectBody, ObjectError, ObjectStore};
use shoal_runtime::clock;
use shoal_types::{BlockKey, BlockRange, BlockSpan, MAX_BLOCK_BYTES};

use crate::error::CacheError;

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct OriginBody {
    key: BlockKey,
    body: ObjectBody,
    block_len: Option<u32>,
    patience: Duration,
}

/// Asks `store` for the block's bytes in `range`, or for all of them; `range` is not empty and lies in the block.
///
/// `patience` bounds the time without progress here and in [`OriginBody::next`]. Errors: `NotFound`, `Conflict` if a bucket's
/// object has changed, `Corrupt` if the length is not what the block must have, `Invalid` if it is longer than any block,
/// `Timeout`.
pub(crate) async fn open(
    store: &dyn ObjectStore,
    key: &BlockKey,
    range: Option<BlockRange>,
    patience: Duration,
) -> Result<OriginBody, CacheError> {
    let within = |offset: u64, range: BlockRange| offset + u64::from(range.start)..offset + u64::from(range.end);
    let (asked, if_match, want) = match key.span() {
        BlockSpan::Whole => (range.map(|range| within(0, range)), None, range.map(BlockRange::len)),
        BlockSpan::Part { etag, offset, len } => {
            let range = range.unwrap_or(BlockRange { start: 0, end: *len });
            (Some(within(*offset, range)), Some(etag.as_str()), Some(range.len()))
        }
    };
    let body = quiet(key, patience, store.get(key.object(), asked, if_match)).await?;
    let len = u32::try_from(body.len).ok().filter(|len| *len <= MAX_BLOCK_BYTES);
    let len = len.ok_or_else(|| CacheError::TooLarge { key: key.clone(), len: body.len })?;
    if let Some(want) = want
        && want != len
    {
        return Err(CacheError::Length { key: key.clone(), want: want.into(), got: len.into() });
    }
    let block_len = match (key.span(), range) {
        (BlockSpan::Part { len, .. }, _) => Some(*len),
        (BlockSpan::Whole, None) => Some(len),
        (BlockSpan::Whole, Some(_)) => body.object_len.map(|len| u32::try_from(len).unwrap_or(u32::MAX)),
    };
    Ok(OriginBody { key: key.clone(), body, block_len, patience })
}

impl OriginBody {
    /// Bytes in the whole block, if the object store told.
    pub(crate) fn block_len(&self) -> Option<u32> {
        self.block_len
    }

    /// The next bytes; `None` once all announced bytes have come. Errors: `Unavailable` if the answer ends early, `Corrupt` if
    /// it holds more or fails its checksum, `Timeout`.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CacheError> {
        quiet(&self.key, self.patience, self.body.next()).await
    }
}

/// `answer`, unless nothing comes for `patience`.
async fn quiet<T>(
    key: &BlockKey,
    patience: Duration,
    answer: impl Future<Output = Result<T, ObjectError>>,
) -> Result<T, CacheError> {
    match clock::timeout(patience, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CacheError::Origin { key: key.clone(), source: source.into() }),
        Err(_) => Err(CacheError::Timeout { key: key.clone(), waited: patience }),
    }
}
