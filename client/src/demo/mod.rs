//! `shoal demo`: the whole of it on one machine, with real parts: a volume in a temporary directory, cache nodes as processes with
//! fresh certificates, two mounts, a warm-up, and every file read twice and compared with its source.

mod data;
mod processes;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use shoal_net::{Role, ca};
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, task};
use shoal_types::ByteSize;
use shoal_volume::import::{ImportOptions, Progress, import};
use shoal_volume::{Access, FormatOptions, OpenOptions, RingOptions, Volume};

use data::Expected;
use processes::{Processes, Spawned};
use report::{Phase, Report};

/// Name of the group and of the volume.
const NAME: &str = "demo";

/// RAM of each node.
const NODE_MEMORY: ByteSize = ByteSize(256 << 20);

/// RAM of each mount: smaller than the data, so that the second reader cannot live from its own RAM.
const MOUNT_MEMORY: ByteSize = ByteSize(128 << 20);

/// Smallest cache directory of a node.
const CACHE_MIN: u64 = 512 << 20;

/// Files read at once.
const READERS: usize = 8;

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory to load [default: the Rust toolchain's own, else /usr/share]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Number of cache nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: u8,
    /// Leave nodes and mounts running until Ctrl-C, and the directory for good
    #[arg(long)]
    keep: bool,
    /// Directory to work in [default: a new one in the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let work = WorkDir::make(args.dir.as_deref(), args.keep)?;
    let source = args.data.clone().map_or_else(data::default_source, Ok)?;
    let mut demo = Demo { args, work, source, shutdown, processes: Processes::default() };
    let result = demo.play().await;
    if result.is_err() && demo.shutdown.is_triggered() {
        bail!("stopped; mounts and nodes are gone");
    }
    result
}

struct Demo {
    args: Args,
    work: WorkDir,
    source: PathBuf,
    shutdown: Shutdown,
    // Dropped before `work`: nothing may run in the directory when it goes. See the order in `drop` below.
    processes: Processes,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.processes.stop();
    }
}

impl Demo {
    fn url(&self) -> String {
        format!("sqlite3://{}", self.work.path.join("demo.db").display())
    }

    fn certs(&self, name: &str) -> PathBuf {
        self.work.path.join("certs").join(name)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.shutdown.is_triggered(), "stopped");
        Ok(())
    }

    async fn play(&mut self) -> anyhow::Result<()> {
        println!("data: {}", self.source.display());
        let mut report = Report::default();
        let (volume, blocks) = self.make_volume(&mut report).await?;
        let expected = self.expected().await?;
        let join = self.start_nodes(expected.bytes).await?;
        let mounts = [self.start_mount(1, &join).await?, self.start_mount(2, &join).await?];
        let ring =
            RingOptions { group: None, seeds: join, certs: self.certs("client"), patience: Duration::from_secs(30) };
        self.warm_up(&mounts[0], &mut report, &ring, blocks).await?;
        for (number, mount) in mounts.iter().enumerate() {
            self.read_all(number + 1, mount, &expected, &mut report, &ring, blocks).await?;
        }
        print!("\n{}", report.render());
        println!("verified {} files against the source", expected.files());
        if self.args.keep {
            self.stay(&volume, &mounts).await;
        }
        Ok(())
    }

    async fn make_volume(&self, report: &mut Report) -> anyhow::Result<(Volume, u64)> {
        let registry = Registry::new();
        let options = FormatOptions::new(NAME, "file", &self.work.path.join("objects").display().to_string());
        shoal_volume::format(&self.url(), &options, None, &registry).await?;
        let volume = Volume::open(&self.url(), &OpenOptions::new(Access::Write), &registry).await?;
        let (progress, started) = (Progress::bar(), clock::now());
        let loaded = import(&volume, &self.source, "/", &ImportOptions::default(), &progress, &self.shutdown).await;
        progress.finish();
        let loaded = loaded?;
        report.phase(Phase::import(started.elapsed(), loaded.files, loaded.bytes));
        println!("volume: {} files, {}, {} blocks", loaded.files, ByteSize(loaded.bytes), loaded.objects);
        Ok((volume, loaded.objects))
    }

    async fn expected(&self) -> anyhow::Result<Expected> {
        let (source, shutdown) = (self.source.clone(), self.shutdown.clone());
        task::blocking("hash source", move || data::hash_tree(&source, READERS, &shutdown)).await
    }

    /// Starts the nodes on addresses of their own; returns them.
    async fn start_nodes(&mut self, bytes: u64) -> anyhow::Result<Vec<String>> {
        let authority = self.certs("ca");
        ca::init(&authority, NAME, true)?;
        ca::issue(&authority, Role::Client, "client", &self.certs("client"), 1)?;
        let share = (bytes / u64::from(self.args.nodes)).saturating_mul(2).max(CACHE_MIN);
        let mut join: Vec<String> = Vec::new();
        for number in 1..=self.args.nodes {
            self.check()?;
            let name = format!("node-{number}");
            ca::issue(&authority, Role::Node, &name, &self.certs(&name), 1)?;
            let cache = self.work.path.join(&name);
            std::fs::create_dir_all(&cache)?;
            let mut command = Spawned::command("shoal-node")?;
            command.args(["--listen", &format!("127.0.0.{}:0", number + 1), "--metrics", "127.0.0.1:0"]);
            command.args(["--memory", &NODE_MEMORY.to_string(), "--volume", &self.url(), "--log-level", "warn"]);
            // At its end nobody needs the blocks any more, and all there is must fit.
            command.args(["--drain-timeout", "0", "--free-space", "0"]).arg("--certs").arg(self.certs(&name));
            command.arg("--cache-dir").arg(format!("{}:{share}", cache.display()));
            if !join.is_empty() {
                command.args(["--join", &join.join(",")]);
            }
            let ready = self.processes.start(command, &self.log(&name), "shoal-node ready", &self.shutdown).await?;
            join.push(ready.field("addr")?.to_owned());
        }
        println!("ring: {} nodes at {}", join.len(), join.join(", "));
        Ok(join)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.work.path.join(format!("{name}.log"))
    }

    async fn start_mount(&mut self, number: usize, join: &[String]) -> anyhow::Result<PathBuf> {
        self.check()?;
        let point = self.work.path.join(format!("mount-{number}"));
        std::fs::create_dir_all(&point)?;
        let mut command = Spawned::command("shoal")?;
        command.args(["--log-level", "warn", "mount", "--read-only", &self.url()]).arg(&point);
        command.args(["--metrics", "none", "--memory", &MOUNT_MEMORY.to_string(), "--join", &join.join(",")]);
        command.arg("--certs").arg(self.certs("client"));
        self.processes.mounted(&point);
        self.processes
            .start(command, &self.log(&format!("mount-{number}")), "shoal mount ready", &self.shutdown)
            .await?;
        Ok(point)
    }

    async fn warm_up(
        &mut self,
        mount: &Path,
        report: &mut Report,
        ring: &RingOptions,
        blocks: u64,
    ) -> anyhow::Result<()> {
        self.check()?;
        let started = clock::now();
        let mut command = Spawned::command("shoal")?;
        command.arg("warmup").arg(mount);
        let output = self.processes.finish(command, &self.shutdown).await?;
        println!("warm-up: {}", output.trim());
        let gets = report::origin_requests(ring).await?;
        report.phase(Phase::warm_up(started.elapsed(), gets, blocks));
        Ok(())
    }

    async fn read_all(
        &self,
        number: usize,
        mount: &Path,
        expected: &Expected,
        report: &mut Report,
        ring: &RingOptions,
        blocks: u64,
    ) -> anyhow::Result<()> {
        self.check()?;
        let before = report::origin_requests(ring).await?;
        let (root, shutdown, started) = (mount.to_owned(), self.shutdown.clone(), clock::now());
        let read = task::blocking("read mount", move || data::hash_tree(&root, READERS, &shutdown)).await?;
        let wall = started.elapsed();
        expected.compare(&read).with_context(|| format!("mount {number} differs from the source"))?;
        let tiers = report::bytes_by_tier(mount)?;
        let gets = report::origin_requests(ring).await? - before;
        report.phase(Phase::read(number, wall, &read, tiers, gets, blocks));
        Ok(())
    }

    async fn stay(&self, volume: &Volume, mounts: &[PathBuf]) {
        println!("\nrunning until Ctrl-C; look around:");
        println!("  ls {}", mounts[0].display());
        println!("  shoal status {}", mounts[0].display());
        println!("  volume {} in {}", volume.settings.name, self.work.path.display());
        self.shutdown.wait().await;
    }
}

/// The directory everything is in; gone with the demo unless it is to be kept.
struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    fn make(parent: Option<&Path>, keep: bool) -> anyhow::Result<WorkDir> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("shoal-demo-{}", std::process::id()));
        std::fs::create_dir_all(&parent)?;
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(WorkDir { path, keep })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("shoal: {} is left behind: {error}", self.path.display());
        }
    }
}
