//! Asynchronous operations repeated for a while, one or several at a time.

use std::cell::{Cell, RefCell};

use anyhow::ensure;
use futures::future::try_join_all;
use shoal_runtime::clock;
use tokio::runtime::{Builder, Runtime};

use crate::sample::{Effort, Meter, Sample};

/// Operations in flight at most.
pub const DEPTH_MAX: usize = 256;

/// A runtime for the asking end: the calling thread alone.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Repeats `operation`, `depth` at a time, as long as `effort` says. It is told its number, from 0, and returns the bytes it moved.
///
/// Errors: the first one of an operation; the others are dropped where they are.
pub async fn repeat(
    effort: &Effort,
    depth: usize,
    operation: impl AsyncFn(u64) -> anyhow::Result<usize>,
) -> anyhow::Result<Sample> {
    ensure!((1..=DEPTH_MAX).contains(&depth), "depth {depth} out of range");
    let (meter, in_flight, begun) = (RefCell::new(Meter::start(effort)), Cell::new(0), Cell::new(0));
    let worker = async || {
        while meter.borrow().goes_on(in_flight.get()) {
            in_flight.set(in_flight.get() + 1);
            let number = begun.replace(begun.get() + 1);
            let began = clock::now();
            let bytes = operation(number).await?;
            in_flight.set(in_flight.get() - 1);
            meter.borrow_mut().done(began, bytes as u64);
        }
        anyhow::Ok(())
    };
    try_join_all((0..depth).map(|_| worker())).await?;
    Ok(meter.into_inner().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_overlap_up_to_the_depth_and_each_has_a_number() {
        let (running, most, numbers) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
        let sample = runtime().unwrap().block_on(repeat(&Effort::ops(10), 4, async |number| {
            numbers.borrow_mut().push(number);
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            Ok(7)
        }));
        let sample = sample.unwrap();
        assert_eq!((sample.ops, sample.bytes, most.get()), (10, 70, 4));
        assert_eq!(numbers.take(), (0..10).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_failure_ends_it() {
        let effort = Effort::ops(10);
        let failing = repeat(&effort, 2, async |number| {
            ensure!(number < 3, "operation {number}");
            Ok(1)
        });
        assert_eq!(runtime().unwrap().block_on(failing).unwrap_err().to_string(), "operation 3");
    }
}
