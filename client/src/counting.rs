//! How far a long command is: a number that its work adds to, shown on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shoal_runtime::task;

/// How often the number is drawn.
const REDRAW: Duration = Duration::from_millis(200);

/// A counter on standard error, as long as it lives; nothing where that is no terminal.
pub(crate) struct Counting {
    count: Arc<AtomicU64>,
    bar: ProgressBar,
}

impl Counting {
    /// Counts `what`, such as "removed".
    pub(crate) fn of(what: &'static str) -> Counting {
        let count: Arc<AtomicU64> = Arc::default();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {pos} {msg}  {per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what);
        let (shown, seen) = (bar.clone(), count.clone());
        drop(task::thread("counting", move || {
            while !shown.is_finished() {
                shown.set_position(seen.load(Ordering::Relaxed));
                std::thread::park_timeout(REDRAW);
            }
        }));
        Counting { count, bar }
    }

    /// What the work adds to.
    pub(crate) fn count(&self) -> &AtomicU64 {
        &self.count
    }

    /// Prints a line above the number.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// The number so far.
    pub(crate) fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
