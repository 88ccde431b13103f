//! Futures polled by hand, for tests of who waits and who goes on.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Polls `future` once; nobody is woken.
pub(crate) fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What is ready by now.
pub(crate) fn ready<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("still waits"),
    }
}
