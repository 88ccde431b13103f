//! `shoal mount`: a volume as a directory, read-only for now.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use shoal_fuse::{FuseOptions, Mounted};
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, http};
use shoal_types::ByteSize;
use shoal_vfs::VfsOptions;
use shoal_volume::{Access, AttachOptions, Attached, OpenOptions, Volume};
use tokio::runtime::Handle;

use crate::mount_state::{MountState, VERSION};
use crate::options::RingArgs;
use crate::umount::{detach, is_mounted};

/// How often a mount looks whether it was unmounted from outside.
const LOOK: Duration = Duration::from_millis(200);

/// The line a mount prints once it serves; scripts, tests and the background form wait for it.
const READY: &str = "shoal mount ready";

/// What `-o` takes. The first ones are how every mount of this version is; they are taken because scripts and fstab name them.
const OPTIONS_KNOWN: [&str; 10] =
    ["ro", "noatime", "nodev", "nosuid", "default_permissions", "allow_other", "exec", "noexec", "sync", "async"];

/// Set for the process that the background form starts.
const BACKGROUND_VARIABLE: &str = "SHOAL_MOUNT_IN_BACKGROUND";

/// Where the metrics page is if nothing else is asked for.
const METRICS: &str = "127.0.0.1:9567";

/// Flags of `mount`. Names and defaults are JuiceFS's where it has the option.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// An existing directory
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    #[command(flatten)]
    ring: RingArgs,
    /// RAM for blocks, held and in flight
    #[arg(long, default_value = "1G", value_name = "SIZE")]
    memory: ByteSize,
    /// Seconds a node may make no progress on a block before the next place is asked
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    peer_timeout: f64,
    /// Bytes fetched ahead of one sequential reader at most, 0 for none; no more than an eighth of --memory
    #[arg(long, default_value = "32M", value_name = "SIZE")]
    max_readahead: ByteSize,
    /// Seconds the kernel trusts an attribute
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    attr_cache: f64,
    /// Seconds the kernel trusts a file's name
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    entry_cache: f64,
    /// Seconds the kernel trusts a directory's name
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    dir_entry_cache: f64,
    /// Seconds the kernel trusts that a name is absent
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    negative_entry_cache: f64,
    /// Threads that serve the kernel [default: number of cores, at most 8]
    #[arg(long, value_name = "N")]
    fuse_threads: Option<usize>,
    /// Mount options, such as allow_other or noexec
    #[arg(short = 'o', value_name = "OPTION,...", value_delimiter = ',')]
    options: Vec<String>,
    /// TCP address of the metrics page; `none` turns it off
    #[arg(long, default_value = METRICS, value_name = "ADDR:PORT")]
    metrics: String,
    /// Go to the background once mounted
    #[arg(short = 'd', long)]
    pub background: bool,
    /// Log file of the background form [default: /var/log/shoal.log, or ~/.shoal/shoal.log]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let registry = Registry::new();
    let mountpoint = std::path::absolute(&args.mountpoint)?;
    let (volume, attached) = tokio::select! {
        attached = attach(&args, &registry) => attached?,
        () = shutdown.wait() => bail!("stopped before anything was mounted"),
    };
    let metrics = serve_metrics(&args.metrics, &registry, &shutdown).await?;
    let state = state(&args, &volume, &mountpoint, metrics)?;
    let options = fuse_options(&args, &volume, mountpoint.clone(), &state)?;
    let (handle, vfs) = (Handle::current(), attached.vfs.clone());
    let mounted =
        shoal_runtime::task::blocking("mount", move || shoal_fuse::mount(vfs, options, handle, registry)).await?;
    tracing::info!(volume = volume.settings.name, mountpoint = %mountpoint.display(), "mounted");
    announce(&mountpoint, metrics)?;
    serve_until_done(mounted, &shutdown).await
}

/// The volume, its cache and its files; nothing is mounted yet.
async fn attach(args: &Args, registry: &Registry) -> anyhow::Result<(Volume, Attached)> {
    let options = AttachOptions {
        ring: args.ring.ring()?,
        memory: args.memory.0,
        peer_timeout: positive_seconds("--peer-timeout", args.peer_timeout)?,
        vfs: VfsOptions { max_readahead: args.max_readahead.0 },
    };
    let volume = Volume::open(&args.meta_url, &OpenOptions::new(Access::Read), registry).await?;
    let attached = volume.attach(&options, Handle::current(), registry).await?;
    Ok((volume, attached))
}

/// Zero would pass every node over without a word.
fn positive_seconds(flag: &str, value: f64) -> anyhow::Result<Duration> {
    let duration = seconds(flag, value)?;
    if duration.is_zero() { bail!("{flag} {value}: a node needs some time to answer") } else { Ok(duration) }
}

fn seconds(flag: &str, value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).ok().with_context(|| format!("{flag} {value} is not a number of seconds"))
}

/// The metrics page; a default port that another mount has taken is given up with a warning, one asked for is an error.
async fn serve_metrics(text: &str, registry: &Registry, shutdown: &Shutdown) -> anyhow::Result<Option<SocketAddr>> {
    if text == "none" {
        return Ok(None);
    }
    let addr: SocketAddr = text.parse().with_context(|| format!("--metrics `{text}` is not ADDR:PORT"))?;
    match http::serve_metrics(addr, registry.clone(), shutdown.clone()).await {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && text == METRICS => {
            tracing::warn!(%addr, "another process has the metrics port; choose one with --metrics");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot serve metrics on {addr}")),
    }
}

fn state(args: &Args, volume: &Volume, mountpoint: &Path, metrics: Option<SocketAddr>) -> anyhow::Result<MountState> {
    Ok(MountState {
        version: VERSION,
        meta_url: absolute_url(&args.meta_url)?,
        name: volume.settings.name.clone(),
        uuid: volume.settings.uuid.clone(),
        mountpoint: mountpoint.to_owned(),
        pid: std::process::id(),
        group: args.ring.group.clone(),
        join: args.ring.join.clone(),
        certs: args.ring.certs.as_ref().map(std::path::absolute).transpose()?,
        metrics: metrics.map(|addr| addr.to_string()),
    })
}

/// A database file named from here is named from anywhere.
fn absolute_url(url: &str) -> anyhow::Result<String> {
    match url.strip_prefix("sqlite3://") {
        Some(path) if !path.starts_with('/') => Ok(format!("sqlite3://{}", std::path::absolute(path)?.display())),
        _ => Ok(url.to_owned()),
    }
}

fn fuse_options(args: &Args, volume: &Volume, mountpoint: PathBuf, state: &MountState) -> anyhow::Result<FuseOptions> {
    let mut extra = args.options.clone();
    if extra.iter().any(|option| option == "rw") {
        bail!("-o rw: this version mounts read-only");
    }
    if let Some(unknown) = extra.iter().find(|option| !OPTIONS_KNOWN.contains(&option.as_str())) {
        bail!("-o {unknown}: not an option of this version; known are {}", OPTIONS_KNOWN.join(", "));
    }
    let root = rustix::process::geteuid().is_root();
    let allow_other = root || extra.iter().any(|option| option == "allow_other");
    extra.retain(|option| option != "allow_other" && option != "ro");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Ok(FuseOptions {
        mountpoint,
        fsname: format!("Shoal:{}", volume.settings.name),
        allow_other,
        extra,
        threads: args.fuse_threads.unwrap_or(cores.min(8)),
        attr_ttl: seconds("--attr-cache", args.attr_cache)?,
        entry_ttl: seconds("--entry-cache", args.entry_cache)?,
        dir_entry_ttl: seconds("--dir-entry-cache", args.dir_entry_cache)?,
        acl: volume.settings.enable_acl,
        negative_ttl: seconds("--negative-entry-cache", args.negative_entry_cache)?,
        config_json: serde_json::to_string_pretty(state)? + "\n",
    })
}

/// Says that the mount serves. In the background form standard output then goes nowhere: the starter has heard it.
fn announce(mountpoint: &Path, metrics: Option<SocketAddr>) -> anyhow::Result<()> {
    let metrics = metrics.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
    let background = in_background();
    if background {
        // Out of the starter's session before it hears that all is well; fails only for a process that leads one already.
        rustix::process::setsid().ok();
    }
    let mut out = std::io::stdout();
    // Nobody may be reading; the mount serves all the same.
    let _ = writeln!(out, "{READY} at={} pid={} metrics={metrics}", mountpoint.display(), std::process::id());
    let _ = out.flush();
    if background {
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(null)?;
    }
    Ok(())
}

async fn serve_until_done(mounted: Mounted, shutdown: &Shutdown) -> anyhow::Result<()> {
    loop {
        if mounted.is_finished() {
            tracing::info!(mountpoint = %mounted.mountpoint().display(), "unmounted");
            // The session is over; ending it again only collects its threads.
            let _ = mounted.unmount();
            return Ok(());
        }
        if clock::timeout(LOOK, shutdown.wait()).await.is_ok() {
            break;
        }
    }
    let path = mounted.mountpoint().to_owned();
    // Without a mount it was detached from outside while files are open: ending is what makes them fail.
    if is_mounted(&path)
        && let Err(error) = detach(&path, false)
    {
        tracing::warn!(%error, "files are open; they fail from now on");
        detach(&path, true)?;
    }
    // There is nothing left to unmount; the session is told so that it does not warn of that.
    let _ = mounted.unmount();
    Ok(())
}

/// True in the process that the background form started: it mounts, although its flags are those of its starter.
pub(crate) fn in_background() -> bool {
    std::env::var_os(BACKGROUND_VARIABLE).is_some()
}

/// Starts this command again without a terminal, waits until it serves, and leaves it running.
pub(crate) fn start_in_background(args: &Args) -> anyhow::Result<ExitCode> {
    let log_path = args.log.clone().unwrap_or_else(default_log);
    if let Some(parent) = log_path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.with_context(|| format!("cannot write the log {}; choose another with --log", log_path.display()))?;
    let written = log.metadata()?.len();
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(BACKGROUND_VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let stdout = child.stdout.take().context("the child has no standard output")?;
    let ready = BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line.starts_with(READY));
    if ready {
        println!("mounted at {}; log in {}", args.mountpoint.display(), log_path.display());
        return Ok(ExitCode::SUCCESS);
    }
    child.wait()?;
    bail!("{}", last_words(&log_path, written))
}

/// What the child said last before it ended.
fn last_words(path: &Path, from: u64) -> String {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_string(&mut text)
    });
    if let Err(error) = read {
        return format!("the mount ended, and its log {} cannot be read: {error}", path.display());
    }
    let line =
        text.lines().rev().find_map(|line| line.strip_prefix("shoal: ")).unwrap_or("the mount ended without a word");
    line.to_owned()
}

fn default_log() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if !rustix::process::geteuid().is_root() => Path::new(&home).join(".shoal/shoal.log"),
        _ => PathBuf::from("/var/log/shoal.log"),
    }
}
