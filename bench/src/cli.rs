//! The command line: one subcommand for each module that measures something.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shoal_runtime::telemetry::{self, LogLevel};

use crate::{classes, gate, limits, mount, peer, rival, store};

/// Measures Shoal against what this machine gives without it.
#[derive(Debug, Parser)]
#[command(name = "shoal-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Limits(limits::Args),
    Store(store::Args),
    #[cfg(feature = "foyer-disk")]
    Foyer(crate::foyer::Args),
    Peer(peer::Args),
    Mount(mount::Args),
    Classes(classes::Args),
    Gate(gate::Args),
    Juicefs(rival::Args),
}

/// Runs the command the process was started with.
pub fn run() -> anyhow::Result<ExitCode> {
    telemetry::init(LogLevel::Warn);
    let done = match Cli::parse().command {
        Command::Limits(args) => limits::run(&args),
        Command::Store(args) => store::run(&args),
        #[cfg(feature = "foyer-disk")]
        Command::Foyer(args) => crate::foyer::run(&args),
        Command::Peer(args) => peer::run(&args),
        Command::Mount(args) => mount::run(&args),
        Command::Classes(args) => classes::run(&args),
        Command::Juicefs(args) => rival::run(&args),
        Command::Gate(args) => return gate::run(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
