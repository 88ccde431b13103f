//! What this machine lets a test do, and saying so loudly when it does not.

use std::io::Write;
use std::path::Path;

/// Whether the tests run as root.
pub fn have_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a FUSE file system can be mounted: `/dev/fuse` opens, and we are root or have `fusermount3`.
pub fn have_fuse() -> bool {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.is_ok() && (have_root() || have_command("fusermount3"))
}

/// Whether `program` is found in `PATH`.
pub fn have_command(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| is_file(&dir.join(program)))
}

/// Whether the kernel has io_uring and neither a sysctl nor a seccomp filter forbids it.
pub fn have_io_uring() -> bool {
    // SAFETY: with zero entries the kernel refuses before it reads through the pointer, which is null; no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0u32, std::ptr::null_mut::<u8>()) };
    let errno = std::io::Error::last_os_error().raw_os_error();
    result >= 0 || !matches!(errno, Some(libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// Says that a test does not run here and why; the test then returns. With `SHOAL_TEST_NO_SKIP=1` it panics instead.
///
/// Written to standard error past the test harness's capture, so a skipped test is never mistaken for a passed one.
#[track_caller]
pub fn skipped(reason: &str) {
    assert!(std::env::var_os("SHOAL_TEST_NO_SKIP").is_none(), "SHOAL_TEST_NO_SKIP is set, but: {reason}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_answer() {
        assert!(have_command("sh") && !have_command("no-such-program-here"));
        assert_eq!(have_root(), rustix::process::getuid().is_root());
        let _ = (have_fuse(), have_io_uring());
    }
}
