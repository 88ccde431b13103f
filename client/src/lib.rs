//! The `shoal` command: makes volumes, loads them, mounts them, and looks after the ring.
//!
//! Layer 8. One file a command; `main.rs` is a thin shell over [`main`].

mod cert;
mod changelog;
mod changing;
mod cli;
mod clone;
mod compact;
mod config;
mod counting;
mod debug;
mod demo;
mod destroy;
mod dump;
mod format;
mod fsck;
mod gc;
mod grid;
mod import;
mod info;
mod load;
mod look_options;
mod mount;
mod mount_files;
mod mount_state;
mod node;
mod options;
mod profile;
mod quota;
mod restore;
mod rmr;
mod sizes;
mod squash_options;
mod staging;
mod stats;
mod status;
mod store_options;
mod summary;
mod table;
mod target;
mod tier;
mod umount;
mod volume_status;
mod warmup;
mod write_options;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Runs the command line; errors become one sentence on standard error and exit code 1.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    shoal_runtime::telemetry::init(cli.log_level());
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shoal: {}", shoal_runtime::telemetry::sentence(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // The background form of `mount` starts itself again before any thread exists.
    if let Command::Mount(args) = &cli.command
        && args.background
        && !mount::in_background()
    {
        return mount::start_in_background(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Format(args) => format::run(args).await,
            Command::Import(args) => import::run(args).await,
            Command::Cert(args) => cert::run(args),
            Command::Mount(args) => mount::run(*args).await,
            Command::Umount(args) => umount::run(args),
            Command::Status(args) => status::run(args).await,
            Command::Node(args) => node::run(args).await,
            Command::Warmup(args) => warmup::run(args).await,
            Command::Info(args) => info::run(args).await,
            Command::Summary(args) => summary::run(args).await,
            Command::Rmr(args) => rmr::run(args).await,
            Command::Clone(args) => clone::run(args).await,
            Command::Stats(args) => stats::run(args).await,
            Command::Profile(args) => profile::run(args),
            Command::Debug(args) => debug::run(args).await,
            Command::Destroy(args) => destroy::run(args).await,
            Command::Restore(args) => restore::run(args).await,
            Command::Quota(args) => quota::run(args).await,
            Command::Changelog(args) => changelog::run(args).await,
            Command::Config(args) => config::run(args).await,
            Command::Tier(args) => tier::run(args).await,
            Command::Dump(args) => dump::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Fsck(args) => fsck::run(args).await,
            Command::Gc(args) => gc::run(args).await,
            Command::Compact(args) => compact::run(args).await,
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // The process ends here and its threads with it. Dropping the runtime would detach threads that are ending at this moment, which
    // glibc 2.36 now and then answers with a segmentation fault in pthread_detach.
    std::mem::forget(runtime);
    result.map(|()| ExitCode::SUCCESS)
}
