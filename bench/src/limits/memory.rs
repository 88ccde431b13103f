//! The memory's limit: copying from one warm buffer to another on one CPU.

use std::hint::black_box;

use shoal_runtime::clock;

use crate::buffer::Aligned;
use crate::sample::{Effort, Meter, Sample};

/// Copies `len` bytes again and again.
pub fn copy(effort: &Effort, len: usize) -> Sample {
    let source = Aligned::seeded(1, len);
    let mut target = Aligned::zeroed(len);
    let mut meter = Meter::start(effort);
    while meter.goes_on(0) {
        let began = clock::now();
        target.copy_from_slice(black_box(&source));
        black_box(&mut target);
        meter.done(began, len as u64);
    }
    meter.finish()
}
