//! How far an import is: counters that the work adds to, and a bar that reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shoal_runtime::task;

/// How often the bar is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Counters of one import.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files committed.
    pub files: AtomicU64,
    /// Bytes of content stored.
    pub bytes: AtomicU64,
    /// Objects stored.
    pub objects: AtomicU64,
    /// Files found so far.
    pub files_found: AtomicU64,
    /// Bytes found so far.
    pub bytes_found: AtomicU64,
    /// True once everything was found: only then an ETA means something.
    pub found_all: AtomicBool,
}

/// The progress of one import, drawn on a terminal or silent.
pub struct Progress {
    counts: Arc<Counts>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Counts without drawing.
    pub fn silent() -> Progress {
        Progress { counts: Arc::default(), bar: None }
    }

    /// Draws a bar on standard error; nothing when that is not a terminal.
    pub fn bar() -> Progress {
        let counts: Arc<Counts> = Arc::default();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(false));
        let (shown, seen) = (bar.clone(), counts.clone());
        drop(task::thread("import progress", move || draw(&shown, &seen)));
        Progress { counts, bar: Some(bar) }
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(total_known: bool) -> ProgressStyle {
    let text = match total_known {
        true => "{bar:30} {msg}  {bytes}/{total_bytes}  {binary_bytes_per_sec}  ETA {eta}",
        false => "{spinner} {msg}  {bytes}  {binary_bytes_per_sec}",
    };
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn draw(bar: &ProgressBar, counts: &Counts) {
    let mut total_known = false;
    while !bar.is_finished() {
        if !total_known && counts.found_all.load(Ordering::Relaxed) {
            total_known = true;
            bar.set_style(style(true));
            bar.set_length(counts.bytes_found.load(Ordering::Relaxed));
        }
        let (done, found) = (counts.files.load(Ordering::Relaxed), counts.files_found.load(Ordering::Relaxed));
        bar.set_message(format!("{done}/{found} files"));
        bar.set_position(counts.bytes.load(Ordering::Relaxed));
        std::thread::park_timeout(REDRAW);
    }
}
