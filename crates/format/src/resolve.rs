//! What a chunk shows: later records hide earlier ones.

use std::collections::BinaryHeap;

use crate::slice::{CHUNK_BYTES, SliceRecord};

/// A run of visible bytes of a chunk from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the chunk.
    pub pos: u32,
    /// Bytes, at least 1; `pos + len` never exceeds a chunk.
    pub len: u32,
    /// Where the bytes come from.
    pub source: PieceSource,
}

/// Where the bytes of a [`Piece`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceSource {
    /// Zeros.
    Hole,
    /// Slice `id` of `size` bytes, from its byte `off`.
    ///
    /// A damaged record can point past `size`; `Layout::reads` refuses such a piece as corrupt.
    Slice {
        /// Slice id, never 0.
        id: u64,
        /// Bytes in the slice.
        size: u32,
        /// Offset in the slice of the piece's first byte.
        off: u32,
    },
}

impl PieceSource {
    /// The source `bytes` further on.
    fn advance(self, bytes: u32) -> PieceSource {
        match self {
            PieceSource::Hole => PieceSource::Hole,
            // Only a damaged record saturates: `off + len <= size` in every sound one.
            PieceSource::Slice { id, size, off } => PieceSource::Slice { id, size, off: off.saturating_add(bytes) },
        }
    }
}

/// A record cut to its chunk, with 64-bit-safe bounds.
struct Span {
    start: u32,
    end: u32,
    source: PieceSource,
}

/// The visible pieces of a chunk whose list is `records`, oldest first: sorted by position, without overlaps.
///
/// Bytes no piece covers are zeros, as are those of a [`PieceSource::Hole`]. Empty records and whatever lies past the end
/// of the chunk are ignored. Takes O(n log n) for n records.
pub fn resolve(records: &[SliceRecord]) -> Vec<Piece> {
    let spans: Vec<Span> = records.iter().filter_map(span_of).collect();
    let mut by_start: Vec<usize> = (0..spans.len()).collect();
    by_start.sort_by_key(|&index| spans[index].start);

    let mut pieces: Vec<Piece> = Vec::with_capacity(spans.len());
    let mut newest = BinaryHeap::new(); // indexes of spans that began and may not have ended: the largest hides the rest
    let mut coming = by_start.into_iter().peekable();
    let mut at = 0;
    loop {
        while let Some(index) = coming.next_if(|&index| spans[index].start <= at) {
            newest.push(index);
        }
        while newest.peek().is_some_and(|&index| spans[index].end <= at) {
            newest.pop();
        }
        let next_start = coming.peek().map(|&index| spans[index].start);
        match (newest.peek(), next_start) {
            (None, None) => return pieces,
            (None, Some(start)) => at = start,
            (Some(&top), next) => {
                let span = &spans[top];
                let end = next.map_or(span.end, |start| start.min(span.end));
                append(&mut pieces, at, end, span.source.advance(at - span.start));
                at = end;
            }
        }
    }
}

fn span_of(record: &SliceRecord) -> Option<Span> {
    let end = (u64::from(record.pos) + u64::from(record.len)).min(CHUNK_BYTES) as u32;
    let source = match record.id {
        0 => PieceSource::Hole,
        id => PieceSource::Slice { id, size: record.size, off: record.off },
    };
    (record.pos < end).then_some(Span { start: record.pos, end, source })
}

/// Adds `start..end` from `source`, growing the last piece where it goes on.
fn append(pieces: &mut Vec<Piece>, start: u32, end: u32, source: PieceSource) {
    if let Some(last) = pieces.last_mut()
        && last.pos + last.len == start
        && last.source.advance(last.len) == source
    {
        last.len += end - start;
        return;
    }
    pieces.push(Piece { pos: start, len: end - start, source });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(pos: u32, len: u32, id: u64, size: u32, off: u32) -> Piece {
        Piece { pos, len, source: PieceSource::Slice { id, size, off } }
    }

    #[test]
    fn newer_write_splits_an_older_one() {
        let records = [SliceRecord::whole(0, 1, 100), SliceRecord::whole(40, 2, 10)];
        let pieces = [slice(0, 40, 1, 100, 0), slice(40, 10, 2, 10, 0), slice(50, 50, 1, 100, 50)];
        assert_eq!(resolve(&records), pieces);
    }

    #[test]
    fn hole_hides_data_and_gaps_stay_absent() {
        let records = [SliceRecord::whole(10, 1, 20), SliceRecord::hole(15, 5), SliceRecord::whole(100, 2, 1)];
        let hole = Piece { pos: 15, len: 5, source: PieceSource::Hole };
        let pieces = [slice(10, 5, 1, 20, 0), hole, slice(20, 10, 1, 20, 10), slice(100, 1, 2, 1, 0)];
        assert_eq!(resolve(&records), pieces);
    }

    #[test]
    fn a_hidden_start_does_not_split_the_piece_above() {
        let records = [SliceRecord::whole(10, 1, 5), SliceRecord::whole(0, 2, 50)];
        assert_eq!(resolve(&records), [slice(0, 50, 2, 50, 0)]);
    }

    #[test]
    fn empty_and_out_of_range_records_are_tolerated() {
        let end = CHUNK_BYTES as u32;
        let records = [
            SliceRecord::whole(5, 1, 0),
            SliceRecord::whole(end - 1, 2, 100),
            SliceRecord::whole(end, 3, 100),
            SliceRecord { pos: u32::MAX, id: 4, size: 1, off: u32::MAX, len: u32::MAX },
        ];
        assert_eq!(resolve(&records), [slice(end - 1, 1, 2, 100, 0)]);
        assert_eq!(resolve(&[]), []);
    }

    #[test]
    fn a_slice_may_show_twice() {
        let first = SliceRecord { pos: 0, id: 1, size: 100, off: 50, len: 20 };
        let again = SliceRecord { pos: 30, id: 1, size: 100, off: 0, len: 20 };
        assert_eq!(resolve(&[first, again]), [slice(0, 20, 1, 100, 50), slice(30, 20, 1, 100, 0)]);
    }
}
