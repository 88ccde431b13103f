//! `shoal-bench` with the system's allocator: what the one we ship is compared with.

fn main() -> anyhow::Result<std::process::ExitCode> {
    shoal_bench::cli::run()
}
