//! A server of a test: it can be killed, started again and made silent, and it ends with this process however that ends.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A shell that runs one server and waits for words on its input. When that ends, which the end of this process brings about at the
/// latest, it ends the server and removes the directory.
#[derive(Debug)]
pub(crate) struct Keeper {
    shell: Child,
    root: PathBuf,
}

/// What a keeper runs, as shell commands whose output goes to the file `log` of the directory.
pub(crate) struct Program<'a> {
    /// Runs once, before the first start.
    pub setup: &'a str,
    /// Becomes the server: one command that stays in the foreground.
    pub server: &'a str,
    /// The signal that ends it without a farewell, such as `KILL`.
    pub end: &'a str,
}

impl Keeper {
    /// Starts `program` with its files in the existing directory `root`, which is the keeper's from now on.
    pub fn start(root: PathBuf, program: &Program<'_>) -> Keeper {
        let Program { setup, server, end } = program;
        // A stopped server would not hear that it shall end. Each pair of words on the input ends it and starts it again.
        let script = format!(
            "cd {root}; ( {setup} ) >>log 2>&1 </dev/null || exit 1\n\
             while :; do sh -c 'echo $$ >pid; exec \"$@\"' sh {server} >>log 2>&1 </dev/null & pid=$!; read -r word || word=\n\
             kill -{end} $pid; kill -CONT $pid $(cat /proc/$pid/task/$pid/children); wait $pid\n\
             [ -n \"$word\" ] || break; read -r word || break; done; cd /; rm -rf {root}",
            root = root.display(),
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C ends the tests, and by that the keeper's input; it must not end the keeper before its work is done.
        command.process_group(0);
        Keeper { shell: command.spawn().expect("sh runs"), root }
    }

    /// Directory of the server.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the setup is done and the server was started.
    pub fn is_set_up(&self) -> bool {
        self.root.join("pid").exists()
    }

    /// Whether the setup failed.
    pub fn has_ended(&mut self) -> bool {
        self.shell.try_wait().is_ok_and(|status| status.is_some())
    }

    /// What the server said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// Number of the server's process.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.root.join("pid")).expect("the keeper writes it");
        text.trim().parse().expect("a number")
    }

    /// Ends the server as a crash does; it is gone some time later.
    pub fn stop(&mut self) {
        self.say("stop");
    }

    /// Starts the server after [`Keeper::stop`]; it serves some time later.
    pub fn start_again(&mut self) {
        self.say("start");
    }

    fn say(&mut self, word: &str) {
        let input = self.shell.stdin.as_mut().expect("the keeper's input is a pipe");
        writeln!(input, "{word}").expect("the keeper lives as long as its input");
    }

    /// Makes the server and its processes silent: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        // Its first process comes first: it starts no others then.
        for pid in [vec![self.pid()], self.children()].concat() {
            signal(pid, Signal::STOP);
        }
    }

    /// Lets the server go on after [`Keeper::freeze`].
    pub fn thaw(&self) {
        for pid in [self.children(), vec![self.pid()]].concat() {
            signal(pid, Signal::CONT);
        }
    }

    fn children(&self) -> Vec<i32> {
        let pid = self.pid();
        let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
    }
}

/// A process that ended meanwhile needs no signal.
fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).expect("a process has a number above 0"), signal);
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{PATIENCE, wait_until};

    /// A server that tells in a file how often it was started.
    fn keeper() -> Keeper {
        let root = tempfile::Builder::new().prefix("shoal-keeper-").tempdir().unwrap().keep();
        let program = Program { setup: "echo set up", server: "sh -c 'echo started; exec sleep 1000'", end: "TERM" };
        Keeper::start(root, &program)
    }

    fn says(keeper: &Keeper, words: &str) {
        wait_until(words, PATIENCE, || keeper.log() == words);
    }

    fn state(pid: i32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    #[test]
    fn a_server_is_ended_started_again_and_gone_with_its_directory() {
        let mut keeper = keeper();
        says(&keeper, "set up\nstarted\n");
        let first = keeper.pid();
        keeper.stop();
        wait_until("it ends", PATIENCE, || state(first).is_none());
        keeper.start_again();
        says(&keeper, "set up\nstarted\nstarted\n");
        let (second, root) = (keeper.pid(), keeper.root().to_owned());
        assert!(second != first && state(second).is_some());
        drop(keeper);
        assert!(state(second).is_none() && !root.exists());
    }

    #[test]
    fn a_frozen_server_does_nothing_and_ends_all_the_same() {
        let keeper = keeper();
        says(&keeper, "set up\nstarted\n");
        let pid = keeper.pid();
        keeper.freeze();
        wait_until("it stands still", PATIENCE, || state(pid) == Some('T'));
        keeper.thaw();
        wait_until("it goes on", PATIENCE, || state(pid) == Some('S'));
        keeper.freeze();
        drop(keeper);
        assert!(state(pid).is_none());
    }
}
