//! The cache node: joins a group, owns a share of the ring, serves blocks from its cache directories and, for a miss, from the
//! origin.
//!
//! Layer 7. `main.rs` is a thin shell over [`run`].

mod assemble;
mod config;
mod drain;
mod metrics;
mod serve;

pub use assemble::{Node, start};
pub use config::{Args, CacheDir, KeyRule, NodeConfig};

use std::io::Write;

use shoal_runtime::hangup::Hangups;
use shoal_runtime::shutdown::Shutdown;

/// Runs a node until a signal or a peer ends it: starts it, says so on standard output, hands its blocks over and leaves the ring in
/// order. A second signal ends the process at once.
///
/// The line `shoal-node ready ...` is printed once the node serves; scripts and tests wait for it.
pub async fn run(config: NodeConfig) -> anyhow::Result<()> {
    let (signals, hangups) = (Shutdown::on_signals()?, Hangups::listen()?);
    let mut node = tokio::select! {
        node = start(config) => node?,
        () = signals.wait() => return Ok(()),
    };
    node.renew_certificates(hangups);
    let mut out = std::io::stdout();
    // Nobody may be reading; the node runs all the same.
    let _ = writeln!(out, "{}", node.ready_line()).and_then(|()| out.flush());
    tokio::select! {
        () = signals.wait() => {}
        () = node.asked_to_leave() => tracing::info!("asked to leave by the holder of a node's certificate"),
    }
    node.drain().await;
    node.stop().await;
    Ok(())
}
