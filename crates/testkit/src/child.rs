//! Child processes of a test: they print their addresses, so no port is fixed, and die with the guard.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::poll_until;

/// Lines kept of each stream; older ones are dropped.
const LINES_MAX: usize = 10_000;
/// Lines of each stream shown when a wait fails or a test panics.
const LINES_SHOWN: usize = 60;

/// A running program, killed and reaped on drop. Its output is read all the time, so it never blocks on a full pipe.
#[derive(Debug)]
pub struct ChildGuard {
    name: String,
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

/// What was read of one stream so far.
#[derive(Debug, Default)]
struct Lines {
    state: Mutex<LinesState>,
}

#[derive(Debug, Default)]
struct LinesState {
    lines: VecDeque<String>,
    /// Lines dropped from the front.
    dropped: usize,
    ended: bool,
}

impl ChildGuard {
    /// Starts `command` with no input and both outputs captured; `name` is for messages.
    ///
    /// Panics if it cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> ChildGuard {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let stdout = Lines::follow(child.stdout.take().expect("stdout is piped"));
        let stderr = Lines::follow(child.stderr.take().expect("stderr is piped"));
        ChildGuard { name: name.to_owned(), child, stdout, stderr }
    }

    /// The first `Some` that `parse` makes of a line of standard output, from the first line on.
    ///
    /// Panics with the program's output if there is none within `limit` or the output ends without one.
    #[track_caller]
    pub fn wait_for_line<T>(&self, what: &str, limit: Duration, parse: impl FnMut(&str) -> Option<T>) -> T {
        match self.stdout.find(limit, parse) {
            Ok(value) => value,
            Err(why) => panic!("{}: no line with {what}: {why}\n{}", self.name, self.output()),
        }
    }

    /// [`ChildGuard::wait_for_line`] on standard error, where logs go.
    #[track_caller]
    pub fn wait_for_log<T>(&self, what: &str, limit: Duration, parse: impl FnMut(&str) -> Option<T>) -> T {
        match self.stderr.find(limit, parse) {
            Ok(value) => value,
            Err(why) => panic!("{}: no log line with {what}: {why}\n{}", self.name, self.output()),
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lines of standard output so far, at most the last ten thousand.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().lines.iter().cloned().collect()
    }

    /// Lines of standard error so far, at most the last ten thousand.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().lines.iter().cloned().collect()
    }

    /// Sends `signal`, e.g. `Signal::STOP` to make a peer silent; nothing happens if the program has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
        }
    }

    /// Asks the program to stop with SIGTERM and waits; panics with its output if it still runs after `limit`.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits for the program to end by itself; panics with its output if it still runs after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        poll_until(limit, || {
            status = self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name));
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("{} still runs after {limit:?}\n{}", self.name, self.output()))
    }

    /// Ends the program with SIGKILL, as a crash would, and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of both streams, for messages.
    pub fn output(&self) -> String {
        format!("--- stdout of {0}\n{1}--- stderr of {0}\n{2}", self.name, self.stdout.tail(), self.stderr.tail())
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "{}", self.output());
        }
    }
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Arc<Lines> {
        let lines = Arc::new(Lines::default());
        let ours = Arc::clone(&lines);
        let read_all = move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                ours.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            ours.lock().ended = true;
        };
        let reader = std::thread::Builder::new().name("child-output".to_owned()).spawn(read_all);
        reader.expect("the operating system grants a thread");
        lines
    }

    fn lock(&self) -> MutexGuard<'_, LinesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        let mut state = self.lock();
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
            state.dropped += 1;
        }
        state.lines.push_back(line);
    }

    fn find<T>(&self, limit: Duration, mut parse: impl FnMut(&str) -> Option<T>) -> Result<T, String> {
        let (mut next, mut found, mut ended) = (0, None, false);
        poll_until(limit, || {
            let state = self.lock();
            let unseen = state.lines.iter().skip(next.max(state.dropped) - state.dropped);
            found = unseen.map(String::as_str).find_map(&mut parse);
            next = state.dropped + state.lines.len();
            ended = state.ended;
            found.is_some() || ended
        });
        let why = if ended { "the output ended".to_owned() } else { format!("not within {limit:?}") };
        found.ok_or(why)
    }

    fn tail(&self) -> String {
        let state = self.lock();
        let skip = state.lines.len().saturating_sub(LINES_SHOWN);
        state.lines.iter().skip(skip).map(|line| format!("{line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::PATIENCE;

    fn shell(script: &str) -> ChildGuard {
        ChildGuard::spawn("shell", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_printed_address_is_found_and_the_program_dies_with_its_guard() {
        let mut child = shell("echo starting; echo log >&2; echo listening on 127.0.0.1:4567; exec sleep 1000");
        let parse = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
        assert_eq!(child.wait_for_line("an address", PATIENCE, parse), "127.0.0.1:4567");
        child.wait_for_log("log", PATIENCE, |line| (line == "log").then_some(()));
        assert_eq!(child.stdout(), ["starting", "listening on 127.0.0.1:4567"]);
        assert!(child.is_running());
        let id = child.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn terminate_asks_and_gives_the_status() {
        let mut child = shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done");
        child.wait_for_line("ready", PATIENCE, |line| (line == "ready").then_some(()));
        assert_eq!(child.terminate(PATIENCE).code(), Some(7));
        child.wait_for_line("bye", PATIENCE, |line| (line == "bye").then_some(()));
        child.signal(Signal::TERM);
    }

    #[test]
    #[should_panic(expected = "no line with an address: the output ended")]
    fn a_program_that_ends_without_the_line_is_reported_with_its_output() {
        shell("echo broken >&2; exit 1").wait_for_line("an address", PATIENCE, |_| None::<()>);
    }
}
