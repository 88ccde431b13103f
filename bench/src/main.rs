//! `shoal-bench`: see `shoal-bench --help`.

/// glibc returns and faults 64 KiB receive buffers all the time, which costs QUIC 40 % (measured); what we ship uses this one too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<std::process::ExitCode> {
    shoal_bench::cli::run()
}
