//! A node's devices: io_uring or not, small, full.

use std::os::unix::process::CommandExt;

use shoal_testkit::{PATIENCE, have_io_uring, skipped};

use crate::rig::{Node, NodeOptions, Rig};
use crate::support::{BLOCK, OneFile, files_below, one_file, read_all, small, tmpfs, warm_up};

/// A ring of the one node that `start` starts twice serves the same bytes from NVMe.
fn serves_from_nvme(rig: &Rig, volume: &OneFile, start: impl Fn() -> Node) -> Vec<String> {
    let mut nodes = vec![start()];
    warm_up(rig, &volume.url, &nodes);
    assert!(nodes[0].process.terminate(PATIENCE).success());
    nodes[0] = start();
    read_all(&rig.mount("m", &volume.url, &nodes, &[]), &volume.content);
    assert_eq!(nodes[0].metric("shoal_cache_origin_requests_total"), 0);
    assert!(nodes[0].metric("shoal_store_reads_total{outcome=\"hit\",tier=\"nvme\"}") > 0);
    let lines = nodes[0].process.stderr();
    lines.into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

#[test]
fn plain_io_serves_the_same_bytes_and_is_nothing_to_warn_of() {
    let Some(rig) = Rig::new("plain") else { return };
    let volume = one_file(&rig, "train", 8);
    let options = NodeOptions { flags: vec!["--io".into(), "plain".into()], ..small() };
    let warnings = serves_from_nvme(&rig, &volume, || rig.start_node(1, &volume.url, &[], &options));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn where_the_kernel_refuses_io_uring_one_warning_is_all_that_changes() {
    let Some(rig) = Rig::new("no-uring") else { return };
    if !have_io_uring() {
        return skipped("the kernel has no io_uring to refuse");
    }
    let volume = one_file(&rig, "train", 8);
    let start = || {
        let mut command = rig.node_command(1, &volume.url, &[], &small());
        // SAFETY: between fork and exec the closure only makes two system calls on memory of its own.
        unsafe { command.pre_exec(refuse_io_uring) };
        rig.started("node-1", &mut command)
    };
    let warnings = serves_from_nvme(&rig, &volume, start);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("io_uring"), "{warnings:#?}");
    // Who insists on it is refused.
    let options = NodeOptions { flags: vec!["--io".into(), "uring".into()], ..small() };
    let mut command = rig.node_command(1, &volume.url, &[], &options);
    // SAFETY: as above.
    unsafe { command.pre_exec(refuse_io_uring) };
    let said = crate::support::node_refused(&mut command);
    assert!(said.contains("io_uring is not available"), "{said}");
}

/// From here on io_uring_setup(2) fails with EPERM, as under the seccomp filter of a container runtime.
fn refuse_io_uring() -> std::io::Result<()> {
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, number),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: both calls only read what they are given, and `program` outlives them.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Bytes that the files below `dir` take on their disk.
fn bytes_on_disk(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    files_below(dir).iter().map(|path| path.metadata().expect("a file").blocks() * 512).sum()
}

#[test]
fn a_cache_smaller_than_the_data_evicts_and_keeps_its_limit() {
    let Some(rig) = Rig::new("evict") else { return };
    let limit = 64u64 << 20;
    let volume = one_file(&rig, "train", 96);
    let options = NodeOptions { cache: "64M".into(), memory: "32M".into(), ..small() };
    let nodes = rig.start_ring(1, &volume.url, &options);
    let mount = rig.mount("m", &volume.url, &nodes, &["--memory", "32M"]);
    read_all(&mount, &volume.content);
    std::fs::write("/proc/sys/vm/drop_caches", "1").expect("root may drop the kernel's pages");
    read_all(&mount, &volume.content);
    let node = &nodes[0];
    assert!(node.metric("shoal_store_evictions_total") > 0);
    let on_disk = bytes_on_disk(&Node::cache_dir(&rig, 1));
    assert!(on_disk <= limit, "{on_disk} bytes on disk");
    for (tier, most) in [("nvme", limit), ("ram", 24 << 20)] {
        let of = |what: &str| node.metric(&format!("shoal_store_{what}_bytes{{tier=\"{tier}\"}}"));
        assert!(
            of("used") > 0 && of("used") <= of("limit") && of("limit") <= most,
            "{tier}: {} of {}",
            of("used"),
            of("limit")
        );
    }
    // It has begun to forget; it must not have forgotten all.
    assert!(node.metric("shoal_store_blocks") * BLOCK as u64 >= limit / 2);
}

#[test]
fn a_disk_that_runs_full_under_a_node_stops_nobody() {
    let Some(rig) = Rig::new("full") else { return };
    let volume = one_file(&rig, "train", 24);
    let disk = tmpfs(&rig, "node-1-cache", "80M");
    let options = NodeOptions { cache: "64M".into(), ..small() };
    // The rest of the disk goes to somebody else while the node runs.
    let nodes = rig.start_ring(1, &volume.url, &options);
    let _ = std::fs::write(disk.join("somebody-else"), vec![7; 32 << 20]);
    assert!(std::fs::write(disk.join("more"), vec![7; 1 << 20]).is_err(), "the disk has room left");
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    read_all(&mount, &volume.content);
    assert_eq!(nodes[0].metric("shoal_store_blocks"), 24, "its own space was reserved");
    assert_eq!(nodes[0].metric("shoal_store_dirs_in_service"), 1);
    // Also a node that starts on a full disk which holds its cache.
    let mut nodes = nodes;
    assert!(nodes[0].process.terminate(PATIENCE).success());
    let nodes = rig.start_ring(1, &volume.url, &options);
    read_all(&rig.mount("again", &volume.url, &nodes, &[]), &volume.content);
    assert_eq!(nodes[0].metric("shoal_cache_origin_requests_total"), 0);
}
