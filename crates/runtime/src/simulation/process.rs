//! Processes of a simulation: groups of tasks that can be frozen, as by SIGSTOP, and killed, as by SIGKILL.

use std::fmt;
use std::sync::Arc;

use super::scheduler::{Group, Scheduler, run_as};

/// A group of tasks; clones are the same group. Whatever a task of a process spawns with [`crate::task`] belongs to that process too.
#[derive(Clone)]
pub struct Process {
    scheduler: Arc<Scheduler>,
    group: Group,
}

impl Process {
    /// A process without tasks. Panics outside a simulation.
    pub fn new() -> Process {
        let scheduler = super::scheduler().expect("a process belongs to a simulation");
        Process { group: scheduler.group(), scheduler }
    }

    /// Calls `work` as this process: what it spawns belongs to it.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        run_as(self.group, work)
    }

    /// No task of it runs until [`Process::thaw`]; time passes all the same, and what they wait for happens.
    pub fn freeze(&self) {
        self.scheduler.freeze(self.group, true);
    }

    /// Lets its tasks run again.
    pub fn thaw(&self) {
        self.scheduler.freeze(self.group, false);
    }

    /// Drops every task of it where it stands, and those it would still spawn. Not for one of its own tasks to call.
    pub fn kill(&self) {
        self.scheduler.kill(self.group);
    }
}

impl Default for Process {
    fn default() -> Process {
        Process::new()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.group)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::super::Simulation;
    use super::*;
    use crate::{clock, task};

    /// A process whose tasks, one spawned by the other, count seconds.
    fn counting() -> (Process, Arc<AtomicU32>) {
        let (process, count) = (Process::new(), Arc::new(AtomicU32::new(0)));
        let counted = count.clone();
        process.run(|| {
            task::spawn("outer", async move {
                task::spawn("inner", async move {
                    loop {
                        clock::sleep(Duration::from_secs(1)).await;
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            })
        });
        (process, count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_stands_still_and_goes_on() {
        let _simulation = Simulation::begin(1);
        let (process, count) = counting();
        clock::sleep(Duration::from_millis(10_500)).await;
        assert_eq!(count.load(Ordering::Relaxed), 10);
        process.freeze();
        clock::sleep(Duration::from_secs(60)).await;
        assert_eq!(count.load(Ordering::Relaxed), 10);
        process.thaw();
        clock::sleep(Duration::from_millis(10)).await;
        assert_eq!(count.load(Ordering::Relaxed), 11, "the sleep that ended meanwhile");
        clock::sleep(Duration::from_secs(5)).await;
        assert_eq!(count.load(Ordering::Relaxed), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_drops_its_tasks_frozen_or_not() {
        let _simulation = Simulation::begin(1);
        for freeze in [false, true] {
            let (process, count) = counting();
            clock::sleep(Duration::from_millis(1500)).await;
            if freeze {
                process.freeze();
            }
            process.kill();
            clock::sleep(Duration::from_secs(5)).await;
            assert_eq!((count.load(Ordering::Relaxed), Arc::strong_count(&count)), (1, 1));
            let late = process.run(|| task::spawn("late", std::future::pending::<()>()));
            assert!(late.await.unwrap_err().is_cancelled());
        }
    }
}
