//! Waits with a limit, cheap where nothing has to be waited for.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use shoal_runtime::clock;

/// The output of `future` if it is ready within `limit`. Sets a timer only if it is not ready at once.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match futures::poll!(future.as_mut()) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => clock::timeout(limit, future).await.ok(),
    }
}
