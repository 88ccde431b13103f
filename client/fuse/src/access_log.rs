//! What the kernel asked and how it was answered, a line a request, for whoever reads the virtual file `.accesslog` (volume format,
//! section 29). The lines have JuiceFS's shape. While nobody reads, a request costs one look at a number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fuser::{INodeNo, Request};
use parking_lot::Mutex;
use shoal_format::{Time, rfc3339};
use shoal_runtime::clock;
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Lines that wait for a slow reader; older ones are dropped, and it is told how many.
const LINES_MAX: usize = 4096;

/// How long a reader waits for a line before it is given one that says nothing, so that it can be interrupted.
const WAIT: Duration = Duration::from_secs(1);

/// A request of the kernel, for the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    pub(crate) name: &'static str,
    /// User, group and process; zeros where the kernel says none.
    who: (u32, u32, u32),
    /// The inode it is about; 0 where there is none.
    ino: u64,
}

impl Op {
    /// `name` by whoever made the request, about `ino`.
    pub(crate) fn of(name: &'static str, req: &Request, ino: INodeNo) -> Op {
        Op { name, who: (req.uid(), req.gid(), req.pid()), ino: ino.0 }
    }

    /// The same under another name.
    pub(crate) fn named(self, name: &'static str) -> Op {
        Op { name, ..self }
    }
}

impl From<&'static str> for Op {
    fn from(name: &'static str) -> Op {
        Op { name, who: (0, 0, 0), ino: 0 }
    }
}

tokio::task_local! {
    /// Why the request that the current task answers failed, if it did.
    static FAILURE: Mutex<Option<String>>;
}

/// Remembers why the current request failed, where it is logged.
pub(crate) fn note_failure(why: impl FnOnce() -> String) {
    // Outside of a logged request there is nobody to tell.
    let _ = FAILURE.try_with(|failure| *failure.lock() = Some(why()));
}

/// The log.
pub(crate) struct AccessLog {
    lines: Sender<String>,
    readers: AtomicUsize,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog { lines: broadcast::channel(LINES_MAX).0, readers: AtomicUsize::new(0) }
    }
}

impl AccessLog {
    /// True while somebody reads.
    pub(crate) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Does `work`, the answer to `op`, and writes its line.
    pub(crate) async fn watch(&self, op: Op, work: impl Future<Output = ()>) {
        let start = clock::now();
        let failure = FAILURE
            .scope(Mutex::default(), async {
                work.await;
                FAILURE.with(|failure| failure.lock().take())
            })
            .await;
        self.write(op, failure.as_deref(), start.elapsed());
    }

    /// Writes the line of a request that is answered.
    pub(crate) fn write(&self, op: Op, failure: Option<&str>, took: Duration) {
        let now = clock::unix_now();
        // Without a reader the line is for nobody.
        let _ = self.lines.send(line(op, failure, took, now));
    }

    /// A reader of the lines from now on, to be given back by [`AccessLog::closed`].
    pub(crate) fn open(&self) -> LogReader {
        self.readers.fetch_add(1, Ordering::Relaxed);
        LogReader(AsyncMutex::new(Reading { lines: self.lines.subscribe(), rest: Vec::new() }))
    }

    /// A reader is gone.
    pub(crate) fn closed(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn line(op: Op, failure: Option<&str>, took: Duration, now: Duration) -> String {
    let time = rfc3339(Time { secs: now.as_secs() as i64, nanos: 0 });
    let time = time.trim_end_matches('Z').replace('-', ".").replace('T', " ");
    let Op { name, who: (uid, gid, pid), ino } = op;
    let result = failure.unwrap_or("OK");
    let (micros, took) = (now.subsec_micros(), took.as_secs_f64());
    format!("{time}.{micros:06} [uid:{uid},gid:{gid},pid:{pid}] {name} ({ino}) - {result} <{took:.6}>\n")
}

/// One open handle of the log.
pub(crate) struct LogReader(AsyncMutex<Reading>);

struct Reading {
    lines: Receiver<String>,
    /// What did not fit the last answer.
    rest: Vec<u8>,
}

impl LogReader {
    /// The next lines, at most `size` bytes; a comment after a second without any.
    pub(crate) async fn read(&self, size: usize) -> Vec<u8> {
        let mut reading = self.0.lock().await;
        if reading.rest.is_empty() {
            let first = match clock::timeout(WAIT, reading.lines.recv()).await {
                Ok(Ok(line)) => line,
                Ok(Err(RecvError::Lagged(lines))) => format!("# {lines} lines were dropped\n"),
                Ok(Err(RecvError::Closed)) | Err(_) => "#\n".to_owned(),
            };
            reading.rest = first.into_bytes();
        }
        while reading.rest.len() < size {
            match reading.lines.try_recv() {
                Ok(line) => reading.rest.extend_from_slice(line.as_bytes()),
                Err(TryRecvError::Lagged(lines)) => {
                    reading.rest.extend_from_slice(format!("# {lines} lines were dropped\n").as_bytes());
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let end = reading.rest.len().min(size);
        reading.rest.drain(..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_shape_of_real_clients() {
        let op = Op { name: "lookup", who: (1, 2, 3), ino: 5 };
        let now = Duration::new(1_795_353_421, 12_345_678);
        assert_eq!(
            line(op, None, Duration::from_micros(222), now),
            "2026.11.22 13:17:01.012345 [uid:1,gid:2,pid:3] lookup (5) - OK <0.000222>\n"
        );
        assert!(line(op, Some("gone"), Duration::ZERO, now).ends_with(" - gone <0.000000>\n"));
    }

    #[tokio::test]
    async fn a_reader_gets_the_lines_since_it_came_and_failures_in_them() {
        let log = AccessLog::default();
        log.write("early".into(), None, Duration::ZERO);
        assert!(!log.is_read());
        let reader = log.open();
        assert!(log.is_read());
        log.watch("open".into(), async {}).await;
        log.watch("read".into(), async { note_failure(|| "no luck".to_owned()) }).await;
        let text = String::from_utf8(reader.read(1 << 20).await).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("] open (0) - OK <") && lines[1].contains("] read (0) - no luck <"), "{text}");
        log.write("write".into(), None, Duration::ZERO);
        let (head, tail) = (reader.read(10).await, reader.read(1000).await);
        assert!(head.len() == 10 && tail.ends_with(b">\n"), "what does not fit is given next");
        log.closed();
        assert!(!log.is_read());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_not_left_waiting() {
        let log = AccessLog::default();
        assert_eq!(log.open().read(100).await, b"#\n");
    }
}
