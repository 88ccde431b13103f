//! `shoal debug`: everything about a mount that somebody needs who looks for what is wrong with it, in one directory. No secrets: the
//! metadata URL is written without its password, the volume's setting without its keys.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use shoal_format::{Time, rfc3339};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_volume::{Access, OpenOptions, Volume, redact};

use crate::mount_files::MountFiles;
use crate::volume_status::{Detail, describe};

/// Bytes of the log looked at from its end; its last lines are in them.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// Files of /proc that say what the mount's process does.
const PROCESS_FILES: [&str; 5] = ["status", "limits", "io", "cgroup", "cmdline"];

/// Files of /proc that say what this machine is.
const SYSTEM_FILES: [&str; 5] =
    ["/proc/version", "/etc/os-release", "/proc/meminfo", "/proc/loadavg", "/proc/self/mountinfo"];

/// Flags of `debug`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A path in a mount
    #[arg(value_name = "MOUNTPOINT")]
    path: PathBuf,
    /// Where the results are written
    #[arg(long, default_value = "debug", value_name = "DIR")]
    out_dir: PathBuf,
    /// Lines of the log, its last ones
    #[arg(long, default_value_t = 5000, value_name = "N")]
    limit: usize,
    /// Seconds between the two samples of metrics
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    stats_sec: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let files = MountFiles::of(&args.path)?;
    let now = rfc3339(Time { secs: clock::unix_now().as_secs() as i64, nanos: 0 });
    let name = format!("{}-{}", files.state.name, now.trim_end_matches('Z').replace(':', ""));
    let dir = args.out_dir.join(&name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let bundle = Bundle { dir: &dir };
    bundle.put("version.txt", &format!("shoal {}\n{now}\n", env!("CARGO_PKG_VERSION")))?;
    bundle.put("config.json", &config(&files)?)?;
    bundle.put("system.txt", &joined(SYSTEM_FILES.map(PathBuf::from)))?;
    bundle.put("process.txt", &process(files.state.pid))?;
    bundle.put("stats.1.txt", &files.stats_text()?)?;
    clock::sleep(Duration::from_secs(args.stats_sec)).await;
    bundle.put("stats.2.txt", &files.stats_text()?)?;
    bundle.put("volume.json", &volume(&files).await)?;
    if let Some(log) = &files.state.log {
        bundle.put("log.txt", &tail(log, args.limit))?;
    }
    println!("{}", pack(&args.out_dir, &name).unwrap_or(dir).display());
    Ok(())
}

struct Bundle<'a> {
    dir: &'a Path,
}

impl Bundle<'_> {
    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// How the mount was made, without the password of its metadata URL.
fn config(files: &MountFiles) -> anyhow::Result<String> {
    let mut state = files.state.clone();
    state.meta_url = redact(&state.meta_url);
    Ok(serde_json::to_string_pretty(&state)? + "\n")
}

/// What the process does: its memory and limits, and of each thread its name, its state and where in the kernel it waits.
fn process(pid: u32) -> String {
    let root = PathBuf::from(format!("/proc/{pid}"));
    let mut text = joined(PROCESS_FILES.map(|name| root.join(name)));
    let Ok(threads) = fs::read_dir(root.join("task")) else { return text };
    for thread in threads.flatten() {
        let part = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let (name, wait, stack) = (part("comm"), part("wchan"), part("stack"));
        text += &format!("thread {:?} {} waits in {wait}\n{stack}", thread.file_name(), name.trim());
    }
    text
}

/// Files one behind the other, each under its name; one that cannot be read says why.
fn joined(paths: impl IntoIterator<Item = PathBuf>) -> String {
    let one = |path: PathBuf| {
        let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
        format!("== {}\n{}\n", path.display(), text.unwrap_or_else(|error| error.to_string()))
    };
    paths.into_iter().map(one).collect()
}

/// Setting, clients and use of the volume; or why they cannot be had.
async fn volume(files: &MountFiles) -> String {
    let told = async {
        let volume = Volume::open(&files.state.meta_url, &OpenOptions::new(Access::Read), &Registry::new()).await?;
        Ok::<_, anyhow::Error>(serde_json::to_string_pretty(&describe(&volume, Detail::Usual).await?)?)
    };
    told.await.unwrap_or_else(|error| format!("{error:#}")) + "\n"
}

/// The last `limit` lines of a file.
fn tail(path: &Path, limit: usize) -> String {
    let read = || {
        let mut file = fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(limit)..].iter().map(|line| format!("{line}\n")).collect()
        }
        Err(error) => format!("{}: {error}\n", path.display()),
    }
}

/// Packs the results into one file, where there is tar(1).
fn pack(out_dir: &Path, name: &str) -> Option<PathBuf> {
    let packed = out_dir.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(out_dir).arg("-czf").arg(&packed).arg(name).stdin(Stdio::null()).stderr(Stdio::null());
    tar.status().is_ok_and(|status| status.success()).then_some(packed)
}
