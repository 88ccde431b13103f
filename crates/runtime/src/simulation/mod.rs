//! Puts one thread under a test's control: everything random comes from one seed, the time of day follows paused time, and tasks run
//! in one order.
//!
//! Together with a current-thread tokio runtime whose time is paused, a run then depends on its seed alone. Tasks spawned with
//! [`crate::task`] are polled in rounds, those that were woken in one round by their number in the next: the order in which a
//! library wakes those who wait (tokio's `watch` does it at random) decides nothing. What still must not decide anything: the
//! order of a map with random hashes, `select!` without `biased`, and real I/O.

mod process;
mod scheduler;

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::process::Process;
use self::scheduler::Scheduler;

/// The time of day at which every simulation begins, since 1970: some moment of 2027.
pub const BEGINS: Duration = Duration::from_secs(1_800_000_000);

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

struct Running {
    rng: StdRng,
    began: std::time::Instant,
    scheduler: Arc<Scheduler>,
}

/// A simulation on this thread; it ends when dropped, and its tasks with the runtime.
#[derive(Debug)]
pub struct Simulation {
    /// Stays on its thread.
    _here: PhantomData<*const ()>,
}

impl Simulation {
    /// Begins a simulation on this thread. Call it inside the runtime, whose time must be paused. Panics if one runs already.
    pub fn begin(seed: u64) -> Simulation {
        RUNNING.with_borrow_mut(|running| {
            assert!(running.is_none(), "one simulation at a time on a thread");
            let scheduler = Scheduler::start(&Handle::current());
            *running = Some(Running { rng: StdRng::seed_from_u64(seed), began: Instant::now().into_std(), scheduler });
        });
        Simulation { _here: PhantomData }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        drop(RUNNING.take());
    }
}

/// True on a thread with a simulation.
pub(crate) fn runs() -> bool {
    RUNNING.with_borrow(Option::is_some)
}

/// What `take` draws from the simulation's generator; `None` without one.
pub(crate) fn draw<T>(take: impl FnOnce(&mut dyn RngCore) -> T) -> Option<T> {
    RUNNING.with_borrow_mut(|running| running.as_mut().map(|running| take(&mut running.rng)))
}

/// The simulated time of day at `now`.
pub(crate) fn unix_now(now: std::time::Instant) -> Option<Duration> {
    RUNNING.with_borrow(|running| {
        let began = running.as_ref()?.began;
        Some(BEGINS + now.saturating_duration_since(began))
    })
}

/// Spawns `future` as a task of the simulation; gives it back if there is none.
pub(crate) fn spawn<F>(handle: &Handle, future: F) -> Result<JoinHandle<F::Output>, F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match scheduler() {
        Some(scheduler) => Ok(scheduler.spawn(handle, future)),
        None => Err(future),
    }
}

fn scheduler() -> Option<Arc<Scheduler>> {
    RUNNING.with_borrow(|running| running.as_ref().map(|running| running.scheduler.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, rng, task};

    #[tokio::test(start_paused = true)]
    async fn a_seed_decides_what_is_drawn_and_the_day_follows_paused_time() {
        let draw = || {
            let _simulation = Simulation::begin(7);
            (rng::random_u64(), rng::id16())
        };
        assert_eq!(draw(), draw());
        let simulation = Simulation::begin(8);
        assert_eq!(clock::unix_now(), BEGINS);
        clock::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock::unix_now(), BEGINS + Duration::from_secs(3600));
        let thread = std::thread::current().id();
        assert_eq!(task::blocking("here", move || std::thread::current().id()).await, thread);
        drop(simulation);
        assert_ne!(clock::unix_now(), BEGINS + Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_woken_together_run_in_the_order_they_were_spawned() {
        let _simulation = Simulation::begin(1);
        let (go, gone) = tokio::sync::watch::channel(false);
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let (mut gone, order) = (gone.clone(), order.clone());
                task::spawn("waits", async move {
                    gone.changed().await.unwrap();
                    order.lock().push(number);
                })
            })
            .collect();
        clock::sleep(Duration::from_millis(5)).await;
        go.send_replace(true);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_gives_its_output_its_panic_or_is_cancelled() {
        let _simulation = Simulation::begin(1);
        assert_eq!(task::spawn("adds", async { 1 + 1 }).await.unwrap(), 2);
        assert!(task::spawn("panics", async { panic!("on purpose") }).await.unwrap_err().is_panic());
        let held = Arc::new(());
        let holds = held.clone();
        let waits = task::spawn("waits", async move {
            let _holds = holds;
            std::future::pending::<()>().await
        });
        clock::sleep(Duration::from_millis(5)).await;
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
