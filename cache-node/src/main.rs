//! `shoal-node`: the cache node's command line.

use clap::Parser;
use shoal_node::{Args, NodeConfig, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    shoal_runtime::telemetry::init(args.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = NodeConfig::load(args).and_then(|config| runtime.block_on(run(config)));
    // The process ends here and its threads with it. Dropping the runtime would detach threads that are ending at this moment, which
    // glibc 2.36 now and then answers with a segmentation fault in pthread_detach.
    std::mem::forget(runtime);
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One sentence for the person who started the node.
fn fail(error: &anyhow::Error) -> std::process::ExitCode {
    eprintln!("shoal-node: {}", shoal_runtime::telemetry::sentence(&**error));
    std::process::ExitCode::FAILURE
}
