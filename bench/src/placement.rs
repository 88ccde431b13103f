//! Which CPUs the two ends of a measurement run on.
//!
//! Pinned and unpinned numbers do not compare (measured: up to 40 %), so both sides of every ratio are placed by the same rule. A
//! thread inherits the CPUs of the one that starts it: whatever starts threads is called inside of [`Placement::serving`] or not.

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How the asking and the answering end share CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Wherever the kernel puts them.
    Free,
    /// Both on the first CPU.
    Together,
    /// The asking end on the first CPU, the answering one on the last. Who has no answering end, such as raw io_uring, is on the
    /// first.
    Apart,
}

impl Place {
    /// Where the ends are that stand for two hosts: apart. Left to the kernel, two threads that take turns are put on one CPU in one
    /// round and on two in the next, which for an exchange of 4 KiB is 17 us or 98 us, and three threads otherwise than two: the
    /// ratio would be of the kernel's choices. One CPU leaves none.
    pub fn of_hosts() -> Place {
        match sched_getaffinity(None) {
            Ok(cpus) if cpus.count() > 1 => Place::Apart,
            _ => Place::Free,
        }
    }
}

/// A [`Place`] in effect for the thread that made it, until it is dropped.
#[derive(Debug)]
pub struct Placement {
    before: CpuSet,
    asking: CpuSet,
    answering: CpuSet,
}

impl Placement {
    /// Moves the calling thread to the asking end's CPUs. Errors: fewer CPUs than `place` needs.
    pub fn new(place: Place) -> anyhow::Result<Placement> {
        let before = sched_getaffinity(None).context("cannot ask for this thread's CPUs")?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu)).collect();
        let first = *allowed.first().context("no CPU may be used")?;
        let last = *allowed.last().context("no CPU may be used")?;
        let (asking, answering) = match place {
            Place::Free => (before, before),
            Place::Together => (only(first), only(first)),
            Place::Apart => {
                ensure!(first != last, "--place apart needs two CPUs");
                (only(first), only(last))
            }
        };
        sched_setaffinity(None, &asking).context("cannot choose this thread's CPUs")?;
        Ok(Placement { before, asking, answering })
    }

    /// Calls `start` on the answering end's CPUs, where the threads it starts stay.
    pub fn serving<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        sched_setaffinity(None, &self.answering).context("cannot choose the answering end's CPUs")?;
        let started = start();
        sched_setaffinity(None, &self.asking).context("cannot choose the asking end's CPUs")?;
        started
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        // It was allowed before.
        let _ = sched_setaffinity(None, &self.before);
    }
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_answering_end_stay_on_its_cpus_and_ours_come_back() {
        let before = sched_getaffinity(None).unwrap();
        let place = if before.count() > 1 { Place::Apart } else { Place::Together };
        {
            let placement = Placement::new(place).unwrap();
            let there = || shoal_runtime::task::thread("placed", || sched_getaffinity(None).unwrap()).join().unwrap();
            let answering = placement.serving(|| Ok(there())).unwrap();
            assert_eq!((answering, there()), (placement.answering, placement.asking));
            assert_eq!((answering.count(), there().count()), (1, 1));
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
