//! Makes room: forgets the oldest segment whole.

use std::sync::Arc;

use super::dir::Dir;
use super::flights::Flights;
use super::index::Index;
use super::segment::Segments;

/// The segment to write next, and how many blocks were forgotten for it; `None` if no segment of the directory is usable.
///
/// When it returns no location in the segment is current, none of its blocks is in the index, and no write to it is under way.
pub(crate) fn take_segment(
    segments: &mut Segments,
    dir: &Dir,
    index: &Arc<Index>,
    flights: &Flights,
) -> Option<(u32, u64)> {
    if let Some(segment) = segments.free.pop_front() {
        return Some((segment, 0));
    }
    let oldest = segments.sealed.pop_front()?;
    // First stale, then forgotten, then overwritten: a reader that found a block here sees that it is gone.
    dir.set_writing(oldest.segment, 0);
    let forgotten = |id| index.remove_if(id, |at| at.dir == dir.number && at.segment == oldest.segment);
    let evicted = oldest.ids.iter().filter(|&&id| forgotten(id)).count();
    flights.settle(oldest.segment);
    Some((oldest.segment, evicted as u64))
}
