//! Processes that lock files as a test tells them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use shoal_runtime::task;
use shoal_testkit::{PATIENCE, wait_until};

/// A process that holds files open and locks them (`locker.py`); it dies with this.
pub struct Locker {
    pub child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Locker {
    /// One that has the file at `path` open as `f`.
    pub fn on(path: &Path) -> Locker {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/locker.py");
        let mut command = Command::new("python3");
        command.arg("-u").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let (input, output) = child.stdin.take().zip(child.stdout.take()).expect("both are pipes");
        let (sender, answers) = channel();
        // Ends with the process's output.
        drop(task::thread("locker-output", move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        }));
        let mut locker = Locker { child, input, answers };
        assert_eq!(locker.answer(), "ready");
        locker.does(&format!("open f {}", path.display()));
        locker
    }

    pub fn tell(&mut self, words: &str) {
        writeln!(self.input, "{words}").expect("the process reads");
    }

    #[track_caller]
    pub fn answer(&mut self) -> String {
        self.answers.recv_timeout(PATIENCE).expect("the process answers")
    }

    #[track_caller]
    pub fn says(&mut self, words: &str) -> String {
        self.tell(words);
        self.answer()
    }

    #[track_caller]
    pub fn does(&mut self, words: &str) {
        assert_eq!(self.says(words), "ok", "{words}");
    }

    #[track_caller]
    pub fn is_refused(&mut self, words: &str) {
        assert_eq!(self.says(&format!("{words} nb")), "EAGAIN", "{words}");
    }

    /// Begins a call that has to wait, and sees it do so.
    #[track_caller]
    pub fn waits(&mut self, words: &str) {
        self.tell(words);
        let call = if words.starts_with("flock") { libc_number("flock") } else { libc_number("fcntl") };
        let path = format!("/proc/{}/syscall", self.child.id());
        wait_until(&format!("{words} waits"), PATIENCE, || {
            std::fs::read_to_string(&path).is_ok_and(|line| line.split(' ').next() == Some(call))
        });
        assert!(self.answers.try_recv().is_err(), "{words} does not wait");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is not waited for yet");
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn libc_number(call: &str) -> &'static str {
    match (call, cfg!(target_arch = "x86_64")) {
        ("flock", true) => "73",
        ("flock", false) => "32",
        (_, true) => "72",
        (_, false) => "25",
    }
}
