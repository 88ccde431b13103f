//! The demo's processes: started in groups of their own, so that Ctrl-C reaches the demo alone and it ends them in order.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, task};

use crate::umount::detach;

/// How long a process may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a process may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an ending process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What a process said when it served.
pub(crate) struct Spawned {
    line: String,
}

impl Spawned {
    /// A command for one of our own programs: the one beside this one, else the one in PATH.
    pub(crate) fn command(name: &str) -> anyhow::Result<Command> {
        let beside = std::env::current_exe()?.with_file_name(name);
        Ok(Command::new(if beside.is_file() { beside } else { PathBuf::from(name) }))
    }

    /// The value of `key=value` in the line.
    pub(crate) fn field(&self, key: &str) -> anyhow::Result<&str> {
        let found = self.line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.with_context(|| format!("no {key} in `{}`", self.line))
    }
}

/// Everything started; mounts first to go, then processes in reverse order.
#[derive(Default)]
pub(crate) struct Processes {
    children: Vec<Child>,
    mounts: Vec<PathBuf>,
}

impl Processes {
    /// Remembers a mountpoint to take down.
    pub(crate) fn mounted(&mut self, point: &Path) {
        self.mounts.push(point.to_owned());
    }

    /// Starts `command` with its log in `log`; returns once it prints a line that starts with `ready`.
    pub(crate) async fn start(
        &mut self,
        mut command: Command,
        log: &Path,
        ready: &'static str,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Spawned> {
        let name = command.get_program().to_string_lossy().into_owned();
        let stderr = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("the child has no standard output")?;
        self.children.push(child);
        let lines = task::blocking("wait for child", move || {
            BufReader::new(stdout).lines().map_while(Result::ok).find(|line| line.starts_with(ready))
        });
        let line = tokio::select! {
            line = clock::timeout(START_TIMEOUT, lines) => line.with_context(|| format!("{name} does not serve"))?,
            () = shutdown.wait() => bail!("stopped"),
        };
        match line {
            Some(line) => Ok(Spawned { line }),
            None => bail!("{}", std::fs::read_to_string(log).unwrap_or_default().trim()),
        }
    }

    /// Runs `command` to its end; returns what it printed. Stopped in between, it ends with the other processes.
    pub(crate) async fn finish(&mut self, mut command: Command, shutdown: &Shutdown) -> anyhow::Result<String> {
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let mut stdout = child.stdout.take().context("the child has no standard output")?;
        self.children.push(child);
        let said = task::blocking("child", move || {
            let mut said = String::new();
            stdout.read_to_string(&mut said).map(|_| said)
        });
        let said = tokio::select! {
            said = said => said?,
            () = shutdown.wait() => bail!("stopped"),
        };
        let mut child = self.children.pop().context("the child is gone")?;
        let status = task::blocking("child", move || child.wait()).await?;
        ensure!(status.success(), "a command of the demo failed");
        Ok(said)
    }

    /// Takes mounts down and ends every process. Safe to call again.
    pub(crate) fn stop(&mut self) {
        let mounts: Vec<PathBuf> = self.mounts.drain(..).rev().collect();
        // A mount that never came up has nothing to take down.
        let take_down = || mounts.iter().for_each(|mount| _ = detach(mount, true));
        take_down();
        let mut children: Vec<Child> = self.children.drain(..).rev().collect();
        for child in &mut children {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = clock::now() + STOP_TIMEOUT;
        for child in &mut children {
            while matches!(child.try_wait(), Ok(None)) && clock::now() < deadline {
                std::thread::park_timeout(LOOK);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        // One that came up while its process was being ended has left a dead mount.
        take_down();
    }
}
