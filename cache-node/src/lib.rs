//! The cache node: joins a group, owns a share of the ring, serves blocks from its cache directories and, for a miss, from the
//! origin.
//!
//! Layer 7. `main.rs` is a thin shell over [`run`].

mod assemble;
mod config;
mod serve;

pub use assemble::{Node, start};
pub use config::{Args, CacheDir, NodeConfig};

use std::io::Write;

use shoal_runtime::shutdown::Shutdown;

/// Runs a node until a signal: starts it, says so on standard output, and leaves the ring in order.
///
/// The line `shoal-node ready ...` is printed once the node serves; scripts and tests wait for it.
pub async fn run(config: NodeConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let node = tokio::select! {
        node = start(config, shutdown.clone()) => node?,
        () = shutdown.wait() => return Ok(()),
    };
    let mut out = std::io::stdout();
    // Nobody may be reading; the node runs all the same.
    let _ = writeln!(out, "{}", node.ready_line()).and_then(|()| out.flush());
    shutdown.wait().await;
    tracing::info!("leaving the ring");
    node.stop().await;
    Ok(())
}
