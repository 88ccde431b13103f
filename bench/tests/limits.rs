//! Every limit runs and moves the bytes it says; nothing here asserts a speed.

use shoal_bench::limits::fuse::NullFuse;
use shoal_bench::limits::memory;
use shoal_bench::limits::pki::Pki;
use shoal_bench::limits::quic::{Mtu, Quic};
use shoal_bench::limits::tls::Tls;
use shoal_bench::limits::uring::UringFile;
use shoal_bench::limits::{BLOCK, CHUNK, MIB, PAGE};
use shoal_bench::placement::{Place, Placement};
use shoal_bench::sample::{Effort, Sample};
use shoal_testkit::{TestDir, have_fuse, have_io_uring, skipped};

#[track_caller]
fn assert_moved(sample: &Sample, ops: u64, size: usize) {
    assert_eq!((sample.ops, sample.bytes), (ops, ops * size as u64));
    assert_eq!(sample.latencies.len() as u64, ops);
    assert!(!sample.wall.is_zero() && sample.cpu_s >= 0.0);
}

#[test]
fn memory_copies() {
    assert_moved(&memory::copy(&Effort::ops(3), BLOCK), 3, BLOCK);
}

#[test]
fn raw_disk_reads_and_writes_at_depth() {
    if !have_io_uring() {
        return skipped("no io_uring");
    }
    let dir = TestDir::on_disk("limits");
    let mut file = UringFile::prepare(dir.path(), 16 << 20).unwrap();
    assert_moved(&file.read(&Effort::ops(5), BLOCK, 1).unwrap(), 5, BLOCK);
    assert_moved(&file.read(&Effort::ops(100), PAGE, 32).unwrap(), 100, PAGE);
    assert_moved(&file.write(&Effort::ops(7), CHUNK, 4).unwrap(), 7, CHUNK);
    assert!(file.read(&Effort::ops(1), PAGE, 33).is_err());
}

#[test]
fn quic_finds_each_packet_size_and_answers() {
    let pki = Pki::generate().unwrap();
    let placement = Placement::new(Place::Free).unwrap();
    for mtu in [Mtu::Internet, Mtu::Jumbo, Mtu::Loopback] {
        let quic = Quic::start(&pki, mtu, &placement).unwrap();
        assert_moved(&quic.get(&Effort::ops(2), BLOCK, 1).unwrap(), 2, BLOCK);
        assert_moved(&quic.get(&Effort::ops(50), PAGE, 8).unwrap(), 50, PAGE);
        assert!(quic.packets_lost_and_sent().1 > 0);
    }
}

#[test]
fn tls_answers() {
    let mut tls = Tls::start(&Pki::generate().unwrap()).unwrap();
    assert_moved(&tls.get(&Effort::ops(2), BLOCK).unwrap(), 2, BLOCK);
    assert_moved(&tls.get(&Effort::ops(10), PAGE).unwrap(), 10, PAGE);
}

#[test]
fn fuse_reads_in_every_way() {
    if !have_fuse() {
        return skipped("no FUSE");
    }
    let fuse = NullFuse::mount().unwrap();
    let file = fuse.file(8 << 20);
    assert_moved(&file.read_direct(&Effort::ops(4), MIB).unwrap(), 4, MIB);
    assert_moved(&file.read_direct_random(&Effort::ops(20), PAGE).unwrap(), 20, PAGE);
    assert_moved(&file.read_buffered(&Effort::ops(4), MIB).unwrap(), 4, MIB);
}
