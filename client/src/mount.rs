//! `shoal mount`: a volume as a directory.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use shoal_format::Ino;
use shoal_fuse::{FuseOptions, INTERNAL_PREFIX, Mounted};
use shoal_meta::{MkdirP, Session};
use shoal_runtime::http::Readiness;
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, http};
use shoal_types::ByteSize;
use shoal_volume::{Access, AttachOptions, Attached, OpenOptions, RingReads, Volume};
use tokio::runtime::Handle;

use crate::changing::session_info;
use crate::look_options::LookArgs;
use crate::mount_state::{MountState, VERSION};
use crate::options::{Period, RingArgs};
use crate::squash_options::SquashArgs;
use crate::staging::Staging;
use crate::store_options::StoreArgs;
use crate::umount::{detach, is_mounted};
use crate::write_options::WriteArgs;

/// How often a mount looks whether it was unmounted from outside.
const LOOK: Duration = Duration::from_millis(200);

/// The line a mount prints once it serves; scripts, tests and the background form wait for it.
const READY: &str = "shoal mount ready";

/// Mode of a directory that is made to be mounted; that of real clients.
const SUBDIR_MODE: u16 = 0o777;

/// What `-o` takes. The first ones are how every mount of this version is; they are taken because scripts and fstab name them.
const OPTIONS_KNOWN: [&str; 11] =
    ["ro", "rw", "noatime", "nodev", "nosuid", "default_permissions", "allow_other", "exec", "noexec", "sync", "async"];

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
    /// Zone of this host, as nodes name theirs with --zone
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Ask nodes in this host's zone before others; needs --zone
    #[arg(long, requires = "zone")]
    zone_aware: bool,
    /// Bytes that may be asked for twice because a node is late, in percent of those read; 0 turns it off
    #[arg(long, default_value_t = 5, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    hedge_budget: u8,
    /// Bytes fetched ahead of one sequential reader at most, 0 for none; no more than an eighth of --memory
    #[arg(long, default_value = "32M", value_name = "SIZE")]
    max_readahead: ByteSize,
    /// How long the kernel trusts an attribute, such as 1s or 500ms
    #[arg(long, default_value = "1s", value_name = "TIME")]
    attr_cache: Period,
    /// How long the kernel trusts a file's name, such as 1s or 500ms
    #[arg(long, default_value = "1s", value_name = "TIME")]
    entry_cache: Period,
    /// How long the kernel trusts a directory's name, such as 1s or 500ms
    #[arg(long, default_value = "1s", value_name = "TIME")]
    dir_entry_cache: Period,
    /// How long the kernel trusts that a name is absent, such as 1s or 500ms
    #[arg(long, default_value = "0s", value_name = "TIME")]
    negative_entry_cache: Period,
    /// Let the kernel keep listings of directories until they change
    #[arg(long)]
    readdir_cache: bool,
    /// Threads that serve the kernel [default: number of cores, at most 8]
    #[arg(long, value_name = "N")]
    fuse_threads: Option<usize>,
    /// Mount options, such as allow_other or noexec
    #[arg(short = 'o', value_name = "OPTION,...", value_delimiter = ',')]
    options: Vec<String>,
    /// TCP address of the metrics page; `none` turns it off
    #[arg(long, default_value = METRICS, value_name = "ADDR:PORT")]
    metrics: String,
    /// Between two signs of life; after five without, other clients release this one's locks
    #[arg(long, default_value = "12s", value_name = "TIME")]
    heartbeat: Period,
    #[command(flatten)]
    looks: LookArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    writing: WriteArgs,
    /// Mount for reading only: neither the database nor the object store is changed
    #[arg(long)]
    read_only: bool,
    /// What a preview wanted to be told; mounts are writable unless they are read-only
    #[arg(long, hide = true, conflicts_with = "read_only")]
    writable: bool,
    /// Mount this directory of the volume as if it were all of it; it is made where it is missing, unless --read-only is given
    #[arg(long, value_name = "DIR")]
    subdir: Option<String>,
    /// Take no part in the volume's periodic work: emptying the trash, cleaning up behind clients that died
    #[arg(long)]
    no_bgjob: bool,
    /// Permission bits that new files and directories never have, in octal, in place of the programs' own umask
    #[arg(long, value_name = "OCTAL", value_parser = octal)]
    umask: Option<u16>,
    #[command(flatten)]
    squash: SquashArgs,
    /// Let the names of the mount's own files begin with `.jfs`: `.jfs.stats` and so on
    #[arg(long)]
    prefix_internal: bool,
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
    let (volume, attached, session) = tokio::select! {
        attached = attach(&args, &registry) => attached?,
        () = shutdown.wait() => bail!("stopped before anything was mounted"),
    };
    let staging = volume.stage.clone().map(Staging::listen).transpose()?;
    let served = serve(&args, &volume, &attached, registry, &shutdown).await;
    attached.vfs.flush_all().await;
    if let Some(staging) = staging {
        staging.end().await;
    }
    if let Some(session) = session {
        session.close().await.context("the volume was not left in order")?;
    }
    served
}

/// Mounts the volume and serves it until somebody ends it.
async fn serve(
    args: &Args,
    volume: &Volume,
    attached: &Attached,
    registry: Registry,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mountpoint = std::path::absolute(&args.mountpoint)?;
    let metrics = serve_metrics(&args.metrics, &registry, shutdown).await?;
    let state = state(args, volume, &mountpoint, metrics)?;
    let root = root_of(args, volume).await?;
    let options = fuse_options(args, volume, mountpoint.clone(), root, &state)?;
    let (handle, vfs) = (Handle::current(), attached.vfs.clone());
    let mounted =
        shoal_runtime::task::blocking("mount", move || shoal_fuse::mount(vfs, options, handle, registry)).await?;
    tracing::info!(volume = volume.settings.name, mountpoint = %mountpoint.display(), "mounted");
    announce(&mountpoint, metrics)?;
    serve_until_done(mounted, shutdown).await
}

impl Args {
    /// `--read-only`, or `ro` as fstab says it.
    fn is_read_only(&self) -> bool {
        self.read_only || self.options.iter().any(|option| option == "ro")
    }
}

/// The volume, its cache and its files, and the client that changes it; nothing is mounted yet.
async fn attach(args: &Args, registry: &Registry) -> anyhow::Result<(Volume, Attached, Option<Session>)> {
    let access = if args.is_read_only() { Access::Read } else { Access::Write };
    let open = OpenOptions { object: args.store.options(), bucket: args.store.bucket(), ..OpenOptions::new(access) };
    let mut volume = Volume::open(&args.meta_url, &open, registry).await?;
    let mut session = None;
    if !args.is_read_only() {
        let dir_time_slack = args.writing.dir_time_slack();
        volume.stage(&args.writing.stage_options()?, registry).await?;
        let joined = join(args, &volume).await?;
        joined.set_dir_time_slack(dir_time_slack);
        session = Some(joined);
    }
    let writes = session.clone().map(|session| args.writing.writing(session, args.memory)).transpose()?;
    let options = AttachOptions {
        ring: args.ring.ring()?,
        memory: args.memory.0,
        peer_timeout: positive_seconds("--peer-timeout", args.peer_timeout)?,
        reads: RingReads { zone: args.zone.clone().filter(|_| args.zone_aware), hedge_percent: args.hedge_budget },
        vfs: args.looks.vfs_options(args.max_readahead),
        writes,
    };
    let attached = volume.attach(&options, Handle::current(), registry).await?;
    Ok((volume, attached, session))
}

/// Joins the volume as a client that changes it and, unless told otherwise, takes part in its periodic work.
async fn join(args: &Args, volume: &Volume) -> anyhow::Result<Session> {
    let info = session_info(&std::path::absolute(&args.mountpoint)?.display().to_string());
    let session = Session::open(volume.meta.clone(), info, heartbeat(args.heartbeat)?).await?;
    if args.no_bgjob {
        session.start_deletions(volume.slices());
    } else {
        session.start_jobs(volume.slices());
    }
    Ok(session)
}

/// At most a day: locks of a client that died wait for five of them.
fn heartbeat(Period(time): Period) -> anyhow::Result<Duration> {
    let most = Duration::from_secs(86_400);
    ensure!(
        (Duration::from_secs(1)..=most).contains(&time),
        "--heartbeat {}: a client shows signs of life every 1 to 86400 seconds",
        time.as_secs_f64()
    );
    Ok(time)
}

/// The directory of the volume that becomes the mount's root. Errors: it is missing and nothing can be made, or no directory.
async fn root_of(args: &Args, volume: &Volume) -> anyhow::Result<Ino> {
    let Some(path) = &args.subdir else { return Ok(Ino::ROOT) };
    let found = match volume.meta.resolve_path(path.as_bytes()).await? {
        Some(found) => found,
        None if !args.is_read_only() => {
            volume.meta.mkdir_p(path.as_bytes(), MkdirP { mode: SUBDIR_MODE, ..MkdirP::default() }).await?
        }
        None => bail!("--subdir {path}: there is no such directory in volume `{}`", volume.settings.name),
    };
    ensure!(found.1.is_dir(), "--subdir {path} is not a directory");
    Ok(found.0)
}

fn octal(text: &str) -> Result<u16, String> {
    match u16::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o777 => Ok(bits),
        _ => Err(format!("`{text}` is no umask; write it as 022")),
    }
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
    match http::serve_admin(addr, registry.clone(), Readiness::ready(), shutdown.clone()).await {
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
        join: args.ring.seeds()?,
        certs: args.ring.certs.as_ref().map(std::path::absolute).transpose()?,
        metrics: metrics.map(|addr| addr.to_string()),
        subdir: args.subdir.clone().map_or_else(String::new, |path| format!("/{}", path.trim_matches('/'))),
        read_only: args.is_read_only(),
        staging: volume.stage.as_ref().map(|stage| stage.dir().to_owned()),
        log: in_background()
            .then(|| args.log.clone().unwrap_or_else(default_log))
            .map(std::path::absolute)
            .transpose()?,
    })
}

/// A database file named from here is named from anywhere.
fn absolute_url(url: &str) -> anyhow::Result<String> {
    match url.strip_prefix("sqlite3://") {
        Some(path) if !path.starts_with('/') => Ok(format!("sqlite3://{}", std::path::absolute(path)?.display())),
        _ => Ok(url.to_owned()),
    }
}

fn fuse_options(
    args: &Args,
    volume: &Volume,
    mountpoint: PathBuf,
    root: Ino,
    state: &MountState,
) -> anyhow::Result<FuseOptions> {
    let mut extra = args.options.clone();
    if let Some(unknown) = extra.iter().find(|option| !OPTIONS_KNOWN.contains(&option.as_str())) {
        bail!("-o {unknown}: not an option of this version; known are {}", OPTIONS_KNOWN.join(", "));
    }
    let has = |name: &str| extra.iter().any(|option| option == name);
    if args.is_read_only() && (args.writable || has("rw") || args.writing.wants_writes()) {
        bail!(
            "the mount cannot be both read-only and writable: give --read-only or -o ro, or -o rw, --writeback, --fill-group"
        );
    }
    if volume.settings.enable_acl && args.squash.squash().is_some() {
        bail!(
            "--root-squash and --all-squash: the kernel checks the ACLs of volume `{}` and knows no squashed users",
            volume.settings.name
        );
    }
    let is_root = rustix::process::geteuid().is_root();
    let allow_other = is_root || extra.iter().any(|option| option == "allow_other");
    extra.retain(|option| !["allow_other", "ro", "rw"].contains(&option.as_str()));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Ok(FuseOptions {
        mountpoint,
        fsname: format!("Shoal:{}", volume.settings.name),
        allow_other,
        extra,
        threads: args.fuse_threads.unwrap_or(cores.min(8)),
        attr_ttl: args.attr_cache.0,
        entry_ttl: args.entry_cache.0,
        dir_entry_ttl: args.dir_entry_cache.0,
        acl: volume.settings.enable_acl,
        negative_ttl: args.negative_entry_cache.0,
        root,
        umask: args.umask,
        squash: args.squash.squash(),
        readdir_cache: args.readdir_cache,
        internal_prefix: if args.prefix_internal { INTERNAL_PREFIX } else { "" },
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
