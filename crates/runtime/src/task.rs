//! Tasks and threads with names; a panic is logged with the name of the task it ended.
#![expect(clippy::disallowed_methods, reason = "this module is what the rest of the workspace calls instead")]

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Runs `future` on the current tokio runtime. Its panic is logged with `name` and then appears in the handle's `JoinError`.
///
/// Dropping the handle detaches the task; `abort` cancels it. Panics outside a runtime.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_on(&Handle::current(), name, future)
}

/// [`spawn`] on another runtime; callable from any thread.
pub fn spawn_on<F>(handle: &Handle, name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let named = named(name, future);
    #[cfg(feature = "testing")]
    let named = match crate::simulation::spawn(handle, named) {
        Ok(task) => return task,
        Err(named) => named,
    };
    handle.spawn(named)
}

/// Runs `work` on the runtime's blocking pool and gives its result; a panic of `work` continues in the caller. In a simulation, which
/// has one thread, `work` runs at once.
///
/// `work` is not interrupted when the returned future is dropped. Never returns if the runtime shuts down first.
pub async fn blocking<T, F>(name: &'static str, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    #[cfg(feature = "testing")]
    if crate::simulation::runs() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => {
                log_panic(name, panic.as_ref());
                resume_unwind(panic)
            }
            Err(_) => std::future::pending().await,
        },
    }
}

/// Starts an operating system thread called `name` (the kernel keeps 15 bytes of it); its panic is logged with the full name.
///
/// Panics if the operating system refuses a thread: nothing sensible can run in a process that cannot start one.
pub fn thread<T, F>(name: &str, work: F) -> std::thread::JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let owned = name.to_owned();
    let body = move || match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(panic) => {
            log_panic(&owned, panic.as_ref());
            resume_unwind(panic)
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("the operating system grants a thread")
}

async fn named<F: Future>(name: &'static str, future: F) -> F::Output {
    let mut future = pin!(future);
    let result = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    });
    match result.await {
        Ok(value) => value,
        Err(panic) => {
            log_panic(name, panic.as_ref());
            resume_unwind(panic)
        }
    }
}

fn log_panic(name: &str, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message");
    tracing::error!(task = name, message, "task panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_gives_its_output_and_a_panic_reaches_the_handle() {
        assert_eq!(spawn("adds", async { 1 + 1 }).await.unwrap(), 2);
        let error = spawn("panics", async { panic!("on purpose") }).await.unwrap_err();
        assert!(error.is_panic());
    }

    #[tokio::test]
    async fn an_aborted_task_is_cancelled() {
        let handle = spawn("waits", std::future::pending::<()>());
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn blocking_work_gives_its_result_and_passes_its_panic_on() {
        assert_eq!(blocking("adds", || 2 + 2).await, 4);
        let error = spawn("outer", blocking("panics", || panic!("on purpose"))).await.unwrap_err();
        assert!(error.is_panic());
    }

    #[test]
    fn a_thread_has_its_name_and_a_task_can_go_to_its_runtime() {
        let named = thread("base-test", || std::thread::current().name().map(str::to_owned));
        assert_eq!(named.join().unwrap().as_deref(), Some("base-test"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = spawn_on(runtime.handle(), "adds", async { 3 });
        assert_eq!(runtime.block_on(handle).unwrap(), 3);
    }
}
