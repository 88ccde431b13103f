//! From the network thread to a reader on another thread: a bounded queue that wakes its reader seldom.
//!
//! A wake-up of another thread costs a few microseconds on both sides, as much as a packet. So the reader is woken for the first
//! thing that comes, for the last, and in between once enough has come ([`WAKE_BYTES`]) or some time has passed ([`Late`]). What
//! is there without waiting it takes all at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use shoal_runtime::clock;
use tokio::sync::Notify;

use crate::error::NetError;
use crate::limits::{QUEUE_BYTES, WAKE_AFTER, WAKE_BYTES};

struct State<T> {
    items: VecDeque<T>,
    /// Weight of `items`.
    bytes: usize,
    /// Something was put in before.
    begun: bool,
    /// Nothing more comes, and why.
    end: Option<Result<(), NetError>>,
    reader: Option<Waker>,
    feeder: Option<Waker>,
    reader_gone: bool,
    /// [`Late`] knows of it.
    late: bool,
}

/// Queues whose readers wait for more than has come, until they are woken for what there is. One timer for all: one for each
/// would be set again with every packet.
#[derive(Default)]
pub(crate) struct Late {
    queues: Mutex<Vec<Arc<dyn Wake>>>,
    some: Notify,
}

trait Wake: Send + Sync {
    /// Wakes the reader for whatever is there.
    fn wake(&self);
}

/// The end that puts in. Dropping it before [`Feed::end`] ends the queue with [`NetError::Closed`].
pub(crate) struct Feed<T> {
    shared: Arc<Mutex<State<T>>>,
    late: Arc<Late>,
}

/// The end that takes out.
pub(crate) struct Reader<T>(Arc<Mutex<State<T>>>);

/// Both ends of a new queue, whose reader `late` wakes at last.
pub(crate) fn channel<T: Send + 'static>(late: &Arc<Late>) -> (Feed<T>, Reader<T>) {
    let state = State {
        items: VecDeque::new(),
        bytes: 0,
        begun: false,
        end: None,
        reader: None,
        feeder: None,
        reader_gone: false,
        late: false,
    };
    let shared = Arc::new(Mutex::new(state));
    (Feed { shared: shared.clone(), late: late.clone() }, Reader(shared))
}

impl Late {
    /// Wakes late readers for as long as it is polled.
    pub(crate) async fn run(&self) {
        loop {
            self.some.notified().await;
            clock::sleep(WAKE_AFTER).await;
            let queues = std::mem::take(&mut *self.queues.lock());
            queues.iter().for_each(|queue| queue.wake());
        }
    }
}

impl<T: Send> Wake for Mutex<State<T>> {
    fn wake(&self) {
        let woken = {
            let mut state = self.lock();
            state.late = false;
            if state.items.is_empty() { None } else { state.reader.take() }
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send + 'static> Feed<T> {
    /// Puts in `items`, which weigh `bytes` together.
    pub(crate) fn put(&mut self, items: impl IntoIterator<Item = T>, bytes: usize) {
        let (woken, late) = {
            let mut state = self.shared.lock();
            state.items.extend(items);
            state.bytes += bytes;
            let first = !std::mem::replace(&mut state.begun, true);
            let woken = if first || state.bytes >= WAKE_BYTES { state.reader.take() } else { None };
            let waits = state.reader.is_some();
            (woken, waits && !std::mem::replace(&mut state.late, waits))
        };
        woken.into_iter().for_each(Waker::wake);
        if late {
            self.late.queues.lock().push(self.shared.clone());
            self.late.some.notify_one();
        }
    }

    /// Waits until there is room for more. A queue whose reader is gone has room.
    pub(crate) async fn room(&mut self) {
        poll_fn(|cx| wait(&self.shared, cx, |state| state.bytes < QUEUE_BYTES || state.reader_gone)).await;
    }

    /// Waits until nobody reads any more. For the same task that puts in.
    pub(crate) fn unwanted(&self) -> impl Future<Output = ()> + use<T> {
        let shared = self.shared.clone();
        poll_fn(move |cx| wait(&shared, cx, |state| state.reader_gone))
    }

    /// Nothing more comes.
    pub(crate) fn end(self, end: Result<(), NetError>) {
        self.shared.lock().end.get_or_insert(end);
        // Dropping it wakes the reader.
    }
}

/// Ready once `done` is true; otherwise the feeding task is woken when the reader takes something or goes.
fn wait<T>(shared: &Mutex<State<T>>, cx: &Context<'_>, done: impl FnOnce(&State<T>) -> bool) -> Poll<()> {
    let mut state = shared.lock();
    if done(&state) {
        return Poll::Ready(());
    }
    if !state.feeder.as_ref().is_some_and(|feeder| feeder.will_wake(cx.waker())) {
        state.feeder = Some(cx.waker().clone());
    }
    Poll::Pending
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        let woken = {
            let mut state = self.shared.lock();
            state.end.get_or_insert(Err(NetError::Closed));
            state.reader.take()
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

impl<T> Reader<T> {
    /// Moves everything that is there to the end of `items`, waiting for something if need be; false after the last.
    ///
    /// Errors: how the queue ended, once all before is taken. Cancel-safe.
    pub(crate) async fn take(&mut self, items: &mut VecDeque<T>) -> Result<bool, NetError> {
        poll_fn(|cx| {
            let feeder = {
                let mut state = self.0.lock();
                if state.items.is_empty() {
                    return match &state.end {
                        Some(Ok(())) => Poll::Ready(Ok(false)),
                        Some(Err(error)) => Poll::Ready(Err(error.clone())),
                        None => {
                            state.reader = Some(cx.waker().clone());
                            Poll::Pending
                        }
                    };
                }
                if items.is_empty() {
                    std::mem::swap(items, &mut state.items);
                } else {
                    items.append(&mut state.items);
                }
                let full = state.bytes >= QUEUE_BYTES;
                state.bytes = 0;
                state.reader = None;
                // A feed that waits for nothing but the reader's end is left alone.
                if full { state.feeder.take() } else { None }
            };
            feeder.into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(true))
        })
        .await
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let feeder = {
            let mut state = self.0.lock();
            state.reader_gone = true;
            state.feeder.take()
        };
        feeder.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake as StdWake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl StdWake for Wakes {
        fn wake(self: Arc<Wakes>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Wakes {
        /// Polls `future` once with a waker that counts here.
        fn poll<F: Future>(self: &Arc<Wakes>, future: F) -> Option<F::Output> {
            match pin!(future).poll(&mut Context::from_waker(&Waker::from(self.clone()))) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }

        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn queue() -> (Feed<u32>, Reader<u32>) {
        channel(&Arc::default())
    }

    #[test]
    fn a_reader_is_woken_for_the_first_for_much_and_for_the_last() {
        let (mut feed, mut reader) = queue();
        let (wakes, mut got) = (Arc::new(Wakes::default()), VecDeque::new());
        assert!(wakes.poll(reader.take(&mut got)).is_none());
        feed.put([1], 10);
        assert_eq!(wakes.count(), 1);
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert!(wakes.poll(reader.take(&mut got)).is_none());
        feed.put([2], WAKE_BYTES - 1);
        assert_eq!(wakes.count(), 1);
        feed.put([3], 1);
        assert_eq!(wakes.count(), 2);
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert!(wakes.poll(reader.take(&mut got)).is_none());
        feed.put([4], 1);
        assert_eq!(wakes.count(), 2);
        feed.end(Ok(()));
        assert_eq!(wakes.count(), 3);
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert!(!wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert_eq!(got, [1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_for_more_is_woken_after_a_while_all_the_same() {
        let late = Arc::new(Late::default());
        let ((mut feed, mut reader), (mut other, mut other_reader)) = (channel(&late), channel(&late));
        let (wakes, mut got) = (Arc::new(Wakes::default()), VecDeque::new());
        feed.put([1], 1);
        other.put([1], 1);
        for reader in [&mut reader, &mut other_reader] {
            assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
            assert!(wakes.poll(reader.take(&mut got)).is_none());
        }
        [2, 3, 4].into_iter().for_each(|item| feed.put([item], 1));
        other.put([2], 1);
        assert_eq!((wakes.count(), late.queues.lock().len()), (0, 2));
        let _ = clock::timeout(2 * WAKE_AFTER, late.run()).await;
        assert_eq!(wakes.count(), 2);
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert_eq!(got, [1, 1, 2, 3, 4]);
        // It may be late again.
        assert!(wakes.poll(reader.take(&mut got)).is_none());
        feed.put([5], 1);
        assert_eq!(late.queues.lock().len(), 1);
    }

    #[test]
    fn a_feed_learns_when_nobody_reads_any_more() {
        let (mut feed, mut reader) = queue();
        let (wakes, mut got) = (Arc::new(Wakes::default()), VecDeque::new());
        let mut unwanted = pin!(feed.unwanted());
        assert!(wakes.poll(unwanted.as_mut()).is_none());
        feed.put([1], 1);
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert_eq!(wakes.count(), 0, "reading is no news");
        drop(reader);
        assert_eq!(wakes.count(), 1);
        assert!(wakes.poll(unwanted).is_some());
    }

    #[test]
    fn a_full_queue_stops_its_feed_until_it_is_read_or_nobody_reads() {
        let (mut feed, mut reader) = queue();
        let (wakes, mut got) = (Arc::new(Wakes::default()), VecDeque::new());
        feed.put([1], QUEUE_BYTES);
        assert!(wakes.poll(feed.room()).is_none());
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        assert_eq!(wakes.count(), 1);
        assert!(wakes.poll(feed.room()).is_some());
        feed.put([2], QUEUE_BYTES);
        assert!(wakes.poll(feed.room()).is_none());
        drop(reader);
        assert_eq!(wakes.count(), 2);
        assert!(wakes.poll(feed.room()).is_some());
    }

    #[test]
    fn a_feed_that_is_dropped_ends_the_queue_as_closed_behind_what_it_put() {
        let (mut feed, mut reader) = queue();
        let (wakes, mut got) = (Arc::new(Wakes::default()), VecDeque::new());
        feed.put([1], 1);
        drop(feed);
        assert!(wakes.poll(reader.take(&mut got)).unwrap().unwrap());
        let error = wakes.poll(reader.take(&mut got)).unwrap().unwrap_err();
        assert!(matches!(error, NetError::Closed));
    }
}
