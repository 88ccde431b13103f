//! When the records of a segment were written, to the second where the writer was busy, coarser where it was not: some marks for each segment
//! instead of a time for each block.

/// Marks of one segment.
const MARKS_MAX: usize = 64;

/// When what lies from some byte of a segment on was written.
#[derive(Debug)]
pub(crate) struct Ages {
    /// Byte, which rises, and Unix time in seconds.
    marks: Vec<(u32, u32)>,
    /// Times that differ by less share a mark.
    step: u32,
}

impl Default for Ages {
    fn default() -> Ages {
        Ages { marks: Vec::new(), step: 1 }
    }
}

impl Ages {
    /// Notes that what lies from byte `start` on is of `time`. Bytes come in order.
    pub(crate) fn note(&mut self, start: u32, time: u32) {
        self.add(start, time);
        while self.marks.len() > MARKS_MAX {
            self.step = self.step.saturating_mul(2);
            let marks = std::mem::take(&mut self.marks);
            marks.into_iter().for_each(|(start, time)| self.add(start, time));
        }
    }

    /// The earlier of two times stays: a block may look older than it is, never younger.
    fn add(&mut self, start: u32, time: u32) {
        match self.marks.last_mut() {
            Some((_, last)) if time.abs_diff(*last) < self.step => *last = time.min(*last),
            _ => self.marks.push((start, time)),
        }
    }

    /// When the record that starts at byte `start` was written, or a little before; 0 if nothing is known.
    pub(crate) fn of(&self, start: u32) -> u32 {
        let behind = self.marks.partition_point(|&(mark, _)| mark <= start);
        behind.checked_sub(1).map_or(0, |at| self.marks[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_never_younger_than_it_is_and_hardly_older() {
        for step in [0, 1, 7] {
            let mut ages = Ages::default();
            // Now and then a block comes that was stored long ago.
            let time = |n: u32| if n % 100 == 50 { 500_000 } else { 1_000_000 + n * step };
            let written: Vec<_> = (0..1000).map(|n| (4096 + n * 64, time(n))).collect();
            written.iter().for_each(|&(start, time)| ages.note(start, time));
            for (start, time) in written {
                let told = ages.of(start);
                assert!(told <= time && time - told <= 64 * step, "{start}: {told} for {time}");
            }
            assert!(ages.marks.len() <= MARKS_MAX && ages.of(0) == 0);
        }
    }
}
