//! Random changes of two files' contents against arrays of bytes.
//!
//! Everything is a multiple of [`CELL`] bytes, so that one cell of a model stands for all bytes of it: 48 of them are three chunks.

use std::collections::BTreeSet;

use shoal_format::{CHUNK_BYTES, Ino, PieceSource, SliceRecord, resolve};
use shoal_runtime::rng;

use super::Case;
use super::sample::{BatchBuilder, TIME, settings};
use crate::engine::DeletedFile;
use crate::ops::{Fallocate, FileRange};
use crate::record::{ChunkSlices, Counter, SliceRef, align4k};
use crate::session::Session;

const CELL: u64 = 4 << 20;
const CELLS_IN_CHUNK: u64 = CHUNK_BYTES / CELL;
/// Longest file, in cells.
const LONGEST: u64 = 48;
const STEPS: u32 = 300;

/// Which cell of which slice shows; (0, 0) is zeros.
type Cell = (u64, u64);

/// A small generator whose seed is printed: xorshift64* (Vigna, 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

struct Files<'a> {
    case: &'a Case,
    session: Session,
    inos: [Ino; 2],
    models: [Vec<Cell>; 2],
}

pub(super) async fn contents_are_those_of_a_model(case: &Case) {
    let seed = rng::random_u64() | 1;
    println!("{}: seed {seed}", case.name);
    let mut dice = Dice(seed);
    case.ok(case.meta.init(&settings(), false).await);
    let first = case.ok(case.meta.alloc_inodes(2).await).start;
    let batch = BatchBuilder::new().file(1, b"a", first, 0).file(1, b"b", first + 1, 0);
    case.ok(case.meta.import(batch.build()).await);
    let session = case.join().await;
    let mut files = Files { case, session, inos: [Ino(first), Ino(first + 1)], models: Default::default() };
    for step in 0..STEPS {
        let which = dice.below(2) as usize;
        files.step(which, &mut dice).await;
        files.check(which, step).await;
    }
    files.check_accounting().await;
    files.remove().await;
    case.ok(files.session.close().await);
}

impl Files<'_> {
    async fn step(&mut self, which: usize, dice: &mut Dice) {
        let start = dice.below(LONGEST);
        let len = 1 + dice.below(LONGEST - start);
        match dice.below(10) {
            0..5 => self.write(which, start, len.min(1 + dice.below(8))).await,
            5 => self.truncate(which, dice.below(LONGEST)).await,
            6 => self.fallocate(which, Fallocate::Punch, start, len).await,
            7 => self.fallocate(which, Fallocate::Zero, start, len).await,
            _ => self.copy(which, dice.below(2) as usize, (start, dice.below(LONGEST)), len).await,
        }
    }

    fn ok<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> T {
        self.case.ok(result)
    }

    async fn write(&mut self, which: usize, start: u64, len: u64) {
        let model = &mut self.models[which];
        model.resize(model.len().max((start + len) as usize), (0, 0));
        let (mut at, mut chunks) = (start, Vec::new());
        while at < start + len {
            let (index, pos) = (at / CELLS_IN_CHUNK, at % CELLS_IN_CHUNK);
            let cells = (CELLS_IN_CHUNK - pos).min(start + len - at);
            let id = self.case.ok(self.session.new_slice().await);
            let record = SliceRecord::whole((pos * CELL) as u32, id, (cells * CELL) as u32);
            chunks.push(ChunkSlices { ino: self.inos[which], index: index as u32, slices: vec![record] });
            (0..cells).for_each(|cell| self.models[which][(at + cell) as usize] = (id, cell));
            at += cells;
        }
        self.ok(self.session.write(self.inos[which], &chunks, TIME).await);
    }

    async fn truncate(&mut self, which: usize, length: u64) {
        self.models[which].resize(length as usize, (0, 0));
        self.ok(self.session.truncate(self.inos[which], length * CELL).await);
    }

    async fn fallocate(&mut self, which: usize, what: Fallocate, start: u64, len: u64) {
        let model = &mut self.models[which];
        let end = (start + len) as usize;
        if what == Fallocate::Zero {
            model.resize(model.len().max(end), (0, 0));
        }
        let end = end.min(model.len());
        model[end.min(start as usize)..end].fill((0, 0));
        self.ok(self.session.fallocate(self.inos[which], what, start * CELL, len * CELL).await);
    }

    async fn copy(&mut self, from: usize, to: usize, (source, target): (u64, u64), len: u64) {
        let len = len.min((self.models[from].len() as u64).saturating_sub(source)).min(LONGEST - target);
        if len == 0 || from == to && source.abs_diff(target) < len {
            return;
        }
        let cells = self.models[from][source as usize..(source + len) as usize].to_vec();
        let end = (target + len) as usize;
        let model = &mut self.models[to];
        model.resize(model.len().max(end), (0, 0));
        model[target as usize..end].copy_from_slice(&cells);
        let at = |which: usize, cell: u64| FileRange { ino: self.inos[which], offset: cell * CELL };
        let copied = self.session.copy_range(at(from, source), at(to, target), len * CELL).await;
        assert_eq!(self.ok(copied).0, len * CELL);
    }

    async fn check(&self, which: usize, step: u32) {
        let (ino, model) = (self.inos[which], &self.models[which]);
        let attr = self.case.some(self.case.meta.getattr(ino).await);
        assert_eq!(attr.length, model.len() as u64 * CELL, "{}: step {step}", self.case.name);
        let mut shown = vec![(0, 0); LONGEST as usize];
        for chunk in self.ok(self.case.meta.chunks(ino, 0..u32::MAX).await) {
            for piece in resolve(&chunk.slices) {
                let PieceSource::Slice { id, off, .. } = piece.source else { continue };
                let first = u64::from(chunk.index) * CELLS_IN_CHUNK + u64::from(piece.pos) / CELL;
                let cells = u64::from(piece.len) / CELL;
                (0..cells).for_each(|cell| shown[(first + cell) as usize] = (id, u64::from(off) / CELL + cell));
            }
        }
        let (inside, behind) = shown.split_at(model.len());
        assert_eq!(inside, model, "{}: step {step}", self.case.name);
        // What lies behind the end must be hidden: a file that grows again shows zeros.
        assert!(behind.iter().all(|cell| *cell == (0, 0)), "{}: step {step}: {behind:?}", self.case.name);
    }

    async fn check_accounting(&self) {
        self.ok(self.session.flush_accounts().await);
        let space: u64 = self.models.iter().map(|model| align4k(model.len() as u64 * CELL)).sum();
        let records = self.case.engine.records();
        assert_eq!(self.ok(records.counter(Counter::UsedSpace).await), space as i64);
        let usage = self.case.some(records.dir_usage(Ino::ROOT).await);
        let length: usize = self.models.iter().map(Vec::len).sum();
        assert_eq!((usage.length, usage.space), (length as i64 * CELL as i64, space as i64));
    }

    /// Takes both files' lists away: every slice must die, and none before its last reference went.
    async fn remove(&self) {
        let kept = self.ok(self.case.meta.chunks(self.inos[1], 0..u32::MAX).await);
        let kept: BTreeSet<u64> = kept.iter().flat_map(|list| &list.slices).map(|record| record.id).collect();
        let mut written = BTreeSet::new();
        let mut died = BTreeSet::new();
        let txn = self.ok(self.case.engine.begin().await);
        for (nth, ino) in self.inos.into_iter().enumerate() {
            let file = DeletedFile { ino, length: 0, removed: 0 };
            let lists = self.ok(txn.take_chunks(&file, 1000).await);
            for record in lists.iter().flat_map(|list| &list.slices).filter(|record| record.id != 0) {
                written.insert(record.id);
                let one = SliceRef { id: record.id, size: record.size, count: 1 };
                let dead = self.ok(txn.drop_slice_refs(&[one]).await);
                assert!(dead.iter().all(|slice| died.insert(slice.id)), "a slice dies once");
            }
            assert!(nth > 0 || died.is_disjoint(&kept), "still in use");
        }
        assert_eq!(died, written, "{}: nothing names these any more", self.case.name);
    }
}
