//! Polls the tasks of a simulation in an order that depends on nothing but the simulation.
//!
//! Each task is also one of tokio's, which only waits for the output, so that its handle works as any. Groups of tasks can be frozen
//! and killed; see [`super::Process`].

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle, unconstrained};

/// Number of a group of tasks; 0 is that of tasks without one.
pub(super) type Group = u64;

thread_local! {
    static CURRENT: Cell<Group> = const { Cell::new(0) };
}

/// Calls `work` so that what it spawns belongs to `group`.
pub(super) fn run_as<T>(group: Group, work: impl FnOnce() -> T) -> T {
    struct Restore(Group);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(group));
    work()
}

/// The tasks of one simulation.
#[derive(Default)]
pub(super) struct Scheduler(Mutex<State>);

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Slot>,
    /// Woken, to be polled in the next round.
    ready: BTreeSet<u64>,
    groups: BTreeMap<Group, GroupState>,
    number: u64,
    driver: Option<Waker>,
}

struct Slot {
    group: Group,
    task: Arc<dyn Task>,
    waker: Waker,
    abort: Option<AbortHandle>,
}

#[derive(Default)]
struct GroupState {
    tasks: BTreeSet<u64>,
    frozen: bool,
    dead: bool,
    /// Woken while frozen.
    parked: BTreeSet<u64>,
}

/// A task whatever it gives.
trait Task: Send + Sync {
    fn poll(&self, cx: &mut Context<'_>);
}

/// A future and what became of it.
struct Run<F: Future>(Mutex<RunState<F>>);

struct RunState<F: Future> {
    future: Option<Pin<Box<F>>>,
    output: Option<thread::Result<F::Output>>,
    waiter: Option<Waker>,
}

impl Scheduler {
    /// Starts to poll tasks on `handle`'s runtime.
    pub(super) fn start(handle: &Handle) -> Arc<Scheduler> {
        let scheduler = Arc::new(Scheduler::default());
        let driven = scheduler.clone();
        drop(handle.spawn(unconstrained(poll_fn(move |cx| driven.round(cx)))));
        scheduler
    }

    /// Polls what was woken since the last round. Never ready.
    fn round(&self, cx: &mut Context<'_>) -> Poll<()> {
        let woken = {
            let mut state = self.0.lock();
            state.driver.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            std::mem::take(&mut state.ready)
        };
        for number in woken {
            let Some((group, task, waker)) = self.take_turn(number) else { continue };
            run_as(group, || task.poll(&mut Context::from_waker(&waker)));
        }
        if !self.0.lock().ready.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn take_turn(&self, number: u64) -> Option<(Group, Arc<dyn Task>, Waker)> {
        let mut state = self.0.lock();
        let slot = state.tasks.get(&number)?;
        let turn = (slot.group, slot.task.clone(), slot.waker.clone());
        if let Some(group) = state.groups.get_mut(&turn.0).filter(|group| group.frozen) {
            group.parked.insert(number);
            return None;
        }
        Some(turn)
    }

    fn wake(&self, number: u64) {
        let driver = {
            let mut state = self.0.lock();
            state.ready.insert(number);
            state.driver.clone()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// A task of the current group.
    pub(super) fn spawn<F>(self: &Arc<Scheduler>, handle: &Handle, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let group = CURRENT.get();
        let state = RunState { future: Some(Box::pin(future)), output: None, waiter: None };
        let run = Arc::new(Run(Mutex::new(state)));
        let number = {
            let mut state = self.0.lock();
            state.number += 1;
            let number = state.number;
            let waker = Waker::from(Arc::new(Wakes { scheduler: Arc::downgrade(self), number }));
            state.tasks.insert(number, Slot { group, task: run.clone(), waker, abort: None });
            number
        };
        let outer = handle.spawn(unconstrained(Outer { scheduler: self.clone(), number, run }));
        let dead = {
            let mut state = self.0.lock();
            if let Some(slot) = state.tasks.get_mut(&number) {
                slot.abort = Some(outer.abort_handle());
            }
            let in_group = (group != 0).then(|| state.groups.entry(group).or_default());
            in_group.is_some_and(|group| {
                group.tasks.insert(number);
                group.dead
            })
        };
        if dead {
            outer.abort();
        } else {
            self.wake(number);
        }
        outer
    }

    /// A task is over, or nobody wants it.
    fn forget(&self, number: u64) {
        let slot = {
            let mut state = self.0.lock();
            let slot = state.tasks.remove(&number);
            if let Some(group) = slot.as_ref().and_then(|slot| state.groups.get_mut(&slot.group)) {
                group.tasks.remove(&number);
            }
            slot
        };
        // Without the lock: what it holds may wake others.
        drop(slot);
    }

    /// A new group.
    pub(super) fn group(&self) -> Group {
        let mut state = self.0.lock();
        state.number += 1;
        let number = state.number;
        state.groups.insert(number, GroupState::default());
        number
    }

    /// Tasks of `group` are polled no more, or again.
    pub(super) fn freeze(&self, group: Group, frozen: bool) {
        let parked = {
            let mut state = self.0.lock();
            let Some(group) = state.groups.get_mut(&group) else { return };
            group.frozen = frozen;
            if frozen { BTreeSet::new() } else { std::mem::take(&mut group.parked) }
        };
        parked.into_iter().for_each(|number| self.wake(number));
    }

    /// Drops the tasks of `group`, those of the future included.
    pub(super) fn kill(&self, group: Group) {
        let slots: Vec<Slot> = {
            let mut state = self.0.lock();
            let state = &mut *state;
            let Some(group) = state.groups.get_mut(&group) else { return };
            group.dead = true;
            let tasks = std::mem::take(&mut group.tasks);
            tasks.iter().filter_map(|number| state.tasks.remove(number)).collect()
        };
        slots.iter().filter_map(|slot| slot.abort.as_ref()).for_each(AbortHandle::abort);
    }
}

impl<F> Task for Run<F>
where
    F: Future + Send,
    F::Output: Send,
{
    fn poll(&self, cx: &mut Context<'_>) {
        let Some(mut future) = self.0.lock().future.take() else { return };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let output = match polled {
            Ok(Poll::Pending) => {
                self.0.lock().future = Some(future);
                return;
            }
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        drop(future);
        let waiter = {
            let mut state = self.0.lock();
            state.output = Some(output);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// What tokio has of a task.
struct Outer<F: Future> {
    scheduler: Arc<Scheduler>,
    number: u64,
    run: Arc<Run<F>>,
}

impl<F: Future> Future for Outer<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let output = {
            let mut state = self.run.0.lock();
            if state.output.is_none() {
                state.waiter = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.output.take()
        };
        match output {
            Some(Ok(output)) => Poll::Ready(output),
            Some(Err(panic)) => resume_unwind(panic),
            None => Poll::Pending,
        }
    }
}

impl<F: Future> Drop for Outer<F> {
    fn drop(&mut self) {
        self.scheduler.forget(self.number);
        let future = self.run.0.lock().future.take();
        drop(future);
    }
}

struct Wakes {
    scheduler: Weak<Scheduler>,
    number: u64,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(scheduler) = self.scheduler.upgrade() {
            scheduler.wake(self.number);
        }
    }
}
