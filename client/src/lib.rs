//! The `shoal` command: makes volumes, loads them, mounts them, and looks after the ring.
//!
//! Layer 8. One file a command; `main.rs` is a thin shell over [`main`].

mod cert;
mod cli;
mod demo;
mod format;
mod import;
mod info;
mod mount;
mod mount_state;
mod options;
mod status;
mod table;
mod target;
mod umount;
mod warmup;

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
            Command::Mount(args) => mount::run(args).await,
            Command::Umount(args) => umount::run(args),
            Command::Status(args) => status::run(args).await,
            Command::Warmup(args) => warmup::run(args).await,
            Command::Info(args) => info::run(args).await,
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // The process ends here and its threads with it. Dropping the runtime would detach threads that are ending at this moment, which
    // glibc 2.36 now and then answers with a segmentation fault in pthread_detach.
    std::mem::forget(runtime);
    result.map(|()| ExitCode::SUCCESS)
}
