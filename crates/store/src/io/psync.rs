//! Plain `pread` and `pwrite` on a few threads: for kernels and sandboxes that refuse io_uring.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use shoal_runtime::task;

use super::device::{Device, Request};

/// Transfers at once: raw 4 MiB reads are as fast at depth 8 as at any. Not tuned for 4 KiB reads, this is the fallback.
const THREADS: usize = 8;

/// A file served by [`THREADS`] threads.
#[derive(Debug)]
pub(crate) struct PlainDevice {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Request>,
    closed: bool,
}

impl PlainDevice {
    /// Starts the threads, named after `label`.
    pub(crate) fn start(file: File, label: &str) -> PlainDevice {
        let shared = Arc::new(Shared { file, queue: Mutex::default(), changed: Condvar::new() });
        for _ in 0..THREADS {
            let shared = Arc::clone(&shared);
            task::thread(label, move || serve(&shared));
        }
        PlainDevice { shared }
    }
}

impl Device for PlainDevice {
    fn submit(&self, request: Request) {
        self.shared.queue.lock().requests.push_back(request);
        self.shared.changed.notify_one();
    }
}

impl Drop for PlainDevice {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

fn serve(shared: &Shared) {
    while let Some(mut request) = next(shared) {
        let result = match request.cargo.fillable() {
            Some(buf) => shared.file.read_exact_at(buf, request.offset),
            None => shared.file.write_all_at(&request.cargo, request.offset),
        };
        (request.done)(result, request.cargo);
    }
}

fn next(shared: &Shared) -> Option<Request> {
    let mut queue = shared.queue.lock();
    loop {
        if let Some(request) = queue.requests.pop_front() {
            return Some(request);
        }
        if queue.closed {
            return None;
        }
        shared.changed.wait(&mut queue);
    }
}
