//! Random operations on two files against arrays of bytes, while the store crawls and fails now and then.

use std::time::Duration;

use shoal_format::Ino;
use shoal_meta::{Fallocate, FileRange};
use shoal_object::Op;
use shoal_runtime::clock;
use shoal_testkit::{Rng, test_seed};
use shoal_types::ErrorKind;

use super::bed::{Bed, Client};

/// Longest file, in bytes: some blocks.
const LONGEST: u64 = 300_000;
const STEPS: u32 = 1500;

#[tokio::test(start_paused = true)]
async fn files_hold_what_was_written_to_them() {
    for round in 0..3 {
        run(test_seed(&format!("writing {round}"))).await;
    }
}

struct Model<'a> {
    client: &'a Client,
    rng: Rng,
    inos: [Ino; 2],
    files: [shoal_vfs::OpenFile; 2],
    bytes: [Vec<u8>; 2],
}

async fn run(seed: u64) {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let inos = [bed.ino, Ino(bed.ino.0 + 1)];
    let files = [client.open(inos[0]).await, client.open(inos[1]).await];
    let mut model = Model { client: &client, rng: Rng::new(seed), inos, files, bytes: Default::default() };
    for step in 0..STEPS {
        if model.rng.chance(3) {
            bed.store.clear();
            bed.store.delay(Op::Put, Duration::from_millis(model.rng.below(1500)));
            bed.store.fail_next(Op::Put, model.rng.below(4) as u32, ErrorKind::Unavailable);
        }
        if model.rng.chance(1) {
            bed.engine.lose_answers(1);
        }
        model.step().await;
        model.check_part(step).await;
        if model.rng.chance(2) {
            model.check_elsewhere(&bed, step).await;
        }
    }
    model.check_elsewhere(&bed, STEPS).await;
    // No object is without a record: every slice that was stored is named.
    let mut named = 0;
    for ino in inos {
        let chunks = bed.meta.chunks(ino, 0..u32::MAX).await.unwrap();
        let mut ids: Vec<u64> = chunks.iter().flat_map(|chunk| &chunk.slices).map(|record| record.id).collect();
        ids.retain(|id| *id != 0);
        named += ids.len();
    }
    assert!(named > 0);
}

impl Model<'_> {
    async fn step(&mut self) {
        let which = self.rng.index(2);
        let start = self.rng.below(LONGEST);
        let most = if self.rng.chance(20) { LONGEST } else { 5000 };
        let len = 1 + self.rng.below(most).min(LONGEST - start - 1);
        let length = self.rng.below(LONGEST);
        match self.rng.below(20) {
            0..10 => self.write(which, start, len).await,
            10..12 => {
                // Where the file ends, as a log is written.
                let end = self.bytes[which].len() as u64;
                self.write(which, end, len.min(LONGEST - end).min(100)).await;
            }
            12 => self.truncate(which, length).await,
            13 => self.fallocate(which, start, len).await,
            14 => self.copy(which, start, len).await,
            15 => self.client.vfs.flush(&self.files[which]).await.unwrap(),
            16 => clock::sleep(Duration::from_millis(self.rng.below(3000))).await,
            _ => {}
        }
    }

    fn grow(&mut self, which: usize, end: u64) {
        let bytes = &mut self.bytes[which];
        bytes.resize(bytes.len().max(end as usize), 0);
    }

    async fn write(&mut self, which: usize, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        let mut data = vec![0; len as usize];
        self.rng.fill(&mut data);
        self.grow(which, start + len);
        self.bytes[which][start as usize..(start + len) as usize].copy_from_slice(&data);
        match self.client.vfs.try_write(&self.files[which], start, &data) {
            Some(done) => assert_eq!(u64::from(done.unwrap()), len),
            None => self.client.write(&self.files[which], start, &data).await,
        }
    }

    async fn truncate(&mut self, which: usize, length: u64) {
        self.bytes[which].resize(length as usize, 0);
        self.again(async |client, inos| client.vfs.truncate(inos[which], length).await.map(drop)).await;
    }

    async fn fallocate(&mut self, which: usize, start: u64, len: u64) {
        self.grow(which, start + len);
        self.bytes[which][start as usize..(start + len) as usize].fill(0);
        self.again(async |client, inos| client.vfs.fallocate(inos[which], Fallocate::Zero, start, len).await).await;
    }

    async fn copy(&mut self, which: usize, start: u64, len: u64) {
        let source = self.bytes[1 - which].clone();
        let len = len.min((source.len() as u64).saturating_sub(start));
        if len == 0 {
            return;
        }
        let target = self.rng.below(LONGEST - len + 1);
        self.grow(which, target + len);
        let copied = &source[start as usize..(start + len) as usize];
        self.bytes[which][target as usize..(target + len) as usize].copy_from_slice(copied);
        self.again(async |client, inos| {
            let at = |ino, offset| FileRange { ino, offset };
            let copied = client.vfs.copy_range(at(inos[1 - which], start), at(inos[which], target), len).await?;
            assert_eq!(copied, len);
            Ok(())
        })
        .await;
    }

    /// Once more where the answer was lost: all of these can be done twice.
    async fn again(&self, work: impl AsyncFn(&Client, [Ino; 2]) -> Result<(), shoal_vfs::VfsError>) {
        if work(self.client, self.inos).await.is_err() {
            work(self.client, self.inos).await.unwrap();
        }
    }

    async fn check_part(&mut self, step: u32) {
        let which = self.rng.index(2);
        let (start, len) = (self.rng.below(LONGEST), 1 + self.rng.below(20_000));
        let bytes = &self.bytes[which];
        assert_eq!(self.files[which].length(), bytes.len() as u64, "step {step}");
        let seen = self.client.read(&self.files[which], start, len as u32).await;
        let (from, to) = ((start as usize).min(bytes.len()), ((start + len) as usize).min(bytes.len()));
        assert!(seen == bytes[from..to], "step {step}: file {which} at {start} for {len}");
        let length = self.client.vfs.getattr(self.inos[which]).await.unwrap().length;
        assert_eq!(length, bytes.len() as u64, "step {step}");
    }

    /// Another client sees everything once it is flushed here.
    async fn check_elsewhere(&self, bed: &Bed, step: u32) {
        bed.engine.lose_answers(0);
        let theirs = bed.client().await;
        for which in 0..2 {
            self.client.vfs.flush(&self.files[which]).await.unwrap();
            assert!(theirs.read_all(self.inos[which]).await == self.bytes[which], "step {step}: file {which}");
        }
        theirs.session.close().await.unwrap();
    }
}
