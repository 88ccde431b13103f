//! A mount process of either client, and what work on it costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use shoal_runtime::clock;
use shoal_testkit::{ChildGuard, PATIENCE, TestDir, wait_until};

use crate::sample::Sample;

/// Unit of CPU time in `/proc`: on every machine Linux runs on programs see this one.
const TICKS_PER_S: f64 = 100.0;

/// Which client.
#[derive(Debug, Clone)]
pub enum Program {
    /// The one that also makes both volumes.
    JuiceFs,
    /// Ours, at this path.
    Shoal(PathBuf),
}

/// A mounted volume.
pub struct Client {
    point: PathBuf,
    process: ChildGuard,
}

impl Client {
    /// Makes a volume with `juicefs` at `meta`, its objects in `dir`, and mounts it with `program`.
    pub fn start(program: Program, juicefs: &Path, dir: &TestDir, meta: &str) -> anyhow::Result<Client> {
        let name = match program {
            Program::JuiceFs => "juicefs",
            Program::Shoal(_) => "shoal",
        };
        let mut format = Command::new(juicefs);
        format.args(["--no-agent", "format", meta, name, "--bucket"]).arg(dir.join(format!("{name}-objects")));
        let output =
            format.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", juicefs.display()))?;
        ensure!(output.status.success(), "format failed: {}", String::from_utf8_lossy(&output.stderr));
        let point = dir.mkdir(format!("{name}-mnt"));
        let mut mount = match &program {
            Program::JuiceFs => {
                let mut mount = Command::new(juicefs);
                mount.args(["--no-agent", "mount", meta]).arg(&point);
                mount.args(["--no-usage-report", "--metrics", "127.0.0.1:0", "--backup-meta", "0", "--cache-dir"]);
                mount.arg(dir.mkdir("juicefs-cache")).arg("--log").arg(dir.join("juicefs.log"));
                mount
            }
            Program::Shoal(path) => {
                let mut mount = Command::new(path);
                mount.args(["mount", meta]).arg(&point).args(["--metrics", "none"]);
                mount
            }
        };
        let process = ChildGuard::spawn(name, &mut mount);
        let probe = point.join(if matches!(program, Program::JuiceFs) { ".config" } else { ".stats" });
        wait_until("the mount serves", PATIENCE, || probe.exists());
        let client = Client { point, process };
        client.renice();
        Ok(client)
    }

    /// A path in the volume.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }

    /// Runs `work` in `threads` threads, which begin together; each is given its number, notes every operation in its log and
    /// says how many bytes it moved.
    pub fn measure(
        &self,
        threads: usize,
        work: impl Fn(usize, &mut Log) -> anyhow::Result<u64> + Sync,
    ) -> anyhow::Result<Sample> {
        let (start, work) = (&Barrier::new(threads), &work);
        let cpu_before = self.cpu_s()?;
        let done = std::thread::scope(|scope| {
            let run = |number| {
                start.wait();
                let mut log = Log { began: clock::now(), latencies: Vec::new() };
                let began = log.began;
                let bytes = work(number, &mut log)?;
                anyhow::Ok((began, clock::now(), bytes, log.latencies))
            };
            let handles: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
            handles.into_iter().map(|handle| handle.join().expect("a worker does not panic")).collect::<Vec<_>>()
        });
        let done = done.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let cpu_s = self.cpu_s()? - cpu_before;
        let (first, last) = (done.iter().map(|it| it.0).min(), done.iter().map(|it| it.1).max());
        let wall = last.zip(first).map(|(last, first)| last.duration_since(first)).context("no threads")?;
        let bytes = done.iter().map(|it| it.2).sum();
        let latencies: Vec<Duration> = done.into_iter().flat_map(|it| it.3).collect();
        Ok(Sample { bytes, ops: latencies.len() as u64, wall, cpu_s, latencies })
    }

    /// CPU seconds, user and kernel, that the mount process has used, and those it started: JuiceFS's has a supervisor.
    fn cpu_s(&self) -> anyhow::Result<f64> {
        let ticks: u64 = self.processes()?.into_iter().filter_map(cpu_ticks).sum();
        Ok(ticks as f64 / TICKS_PER_S)
    }

    /// The mount process and its children.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let id = self.process.id();
        let mut all = vec![id];
        for task in fs::read_dir(format!("/proc/{id}/task")).context("the mount process ended")? {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        Ok(all)
    }

    /// Gives every thread the priority of everybody else: JuiceFS raises its own.
    fn renice(&self) {
        let tasks = |process: u32| fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        for task in self.processes().unwrap_or_default().into_iter().flat_map(tasks) {
            let thread =
                task.file_name().to_str().and_then(|name| name.parse().ok()).and_then(rustix::process::Pid::from_raw);
            // Where it is not allowed JuiceFS was not allowed to raise it either.
            let _ = rustix::process::setpriority_process(thread, 0);
        }
    }
}

/// User and kernel time of a process.
fn cpu_ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold blanks; utime and stime are fields 14 and 15 of proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    fields.get(11..13)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// What one thread did.
pub struct Log {
    began: Instant,
    latencies: Vec<Duration>,
}

impl Log {
    /// Notes that an operation ended that began when the last one ended.
    pub fn done(&mut self) {
        let now = clock::now();
        self.latencies.push(now.duration_since(self.began));
        self.began = now;
    }
}
