//! Slice resolution against a model that paints bytes one by one.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shoal_format::{CHUNK_BYTES, Piece, PieceSource, SliceRecord, resolve};

/// Positions the model covers, from its base on.
const WINDOW: u32 = 256;

/// What a byte shows: slice, its size, and the byte's offset in it; `None` is a zero.
type Cell = Option<(u64, u32, u32)>;

fn paint(base: u32, records: &[SliceRecord]) -> Vec<Cell> {
    let mut cells = vec![None; WINDOW as usize];
    for record in records {
        for n in 0..record.len {
            let at = u64::from(record.pos) + u64::from(n);
            if at < CHUNK_BYTES && at >= u64::from(base) && at - u64::from(base) < u64::from(WINDOW) {
                cells[(at - u64::from(base)) as usize] =
                    (record.id != 0).then(|| (record.id, record.size, record.off + n));
            }
        }
    }
    cells
}

fn paint_pieces(base: u32, pieces: &[Piece]) -> Vec<Cell> {
    let mut cells = vec![None; WINDOW as usize];
    for piece in pieces {
        for n in 0..piece.len {
            let cell = &mut cells[(piece.pos + n - base) as usize];
            *cell = match piece.source {
                PieceSource::Hole => None,
                PieceSource::Slice { id, size, off } => Some((id, size, off + n)),
            };
        }
    }
    cells
}

fn random_record(rng: &mut StdRng, base: u32) -> SliceRecord {
    let pos = base + rng.random_range(0..WINDOW);
    // Mostly inside the window; near the end of the chunk some records reach past it.
    let room = if base == 0 { WINDOW - pos } else { 2 * WINDOW };
    let longest = [4, 40, WINDOW][rng.random_range(0..3)].min(room);
    let len = rng.random_range(0..=longest);
    match rng.random_range(0..10) {
        0 | 1 => SliceRecord::hole(pos, len),
        2..=4 => {
            let off = rng.random_range(0..50);
            SliceRecord { pos, id: rng.random_range(1..4), size: 400, off, len }
        }
        _ => SliceRecord::whole(pos, rng.random_range(1..1000), len),
    }
}

fn check_shape(pieces: &[Piece]) {
    for piece in pieces {
        assert!(piece.len > 0 && u64::from(piece.pos) + u64::from(piece.len) <= CHUNK_BYTES, "{piece:?}");
    }
    assert!(pieces.windows(2).all(|pair| pair[0].pos + pair[0].len <= pair[1].pos), "{pieces:?}");
}

#[test]
fn resolution_shows_what_painting_shows() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..4000 {
        let base = if round % 2 == 0 { 0 } else { CHUNK_BYTES as u32 - WINDOW };
        let count = rng.random_range(0..24);
        let records: Vec<_> = (0..count).map(|_| random_record(&mut rng, base)).collect();
        let pieces = resolve(&records);
        check_shape(&pieces);
        assert_eq!(paint_pieces(base, &pieces), paint(base, &records), "round {round}: {records:?}");
    }
}

#[test]
fn resolving_what_was_resolved_changes_nothing() {
    let seed = 0x5eed_0003;
    println!("seed {seed:#x}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..500 {
        let records: Vec<_> = (0..20).map(|_| random_record(&mut rng, 0)).collect();
        let pieces = resolve(&records);
        let again: Vec<_> = pieces.iter().map(to_record).collect();
        assert_eq!(resolve(&again), pieces);
    }
}

fn to_record(piece: &Piece) -> SliceRecord {
    match piece.source {
        PieceSource::Hole => SliceRecord::hole(piece.pos, piece.len),
        PieceSource::Slice { id, size, off } => SliceRecord { pos: piece.pos, id, size, off, len: piece.len },
    }
}

#[test]
fn long_lists_resolve() {
    // Nested, each inside the one before: the shape where a quadratic resolution would take minutes.
    let count = 100_000;
    let nested: Vec<_> = (0..count).map(|n| SliceRecord::whole(n, u64::from(n) + 1, 2 * (count - n))).collect();
    assert_eq!(resolve(&nested).len(), 2 * count as usize - 1);
    let hidden: Vec<_> = nested.iter().rev().copied().collect();
    assert_eq!(resolve(&hidden).len(), 1);
}

#[test]
fn damaged_records_never_claim_bytes_they_do_not_have_silently() {
    // A record that points past its slice keeps pointing there, so that the reader finds out.
    let record = SliceRecord { pos: 0, id: 1, size: 10, off: u32::MAX - 1, len: 20 };
    let pieces = resolve(&[record, SliceRecord::whole(5, 2, 5)]);
    for piece in pieces {
        let PieceSource::Slice { id, size, off } = piece.source else { panic!("{piece:?}") };
        assert_eq!(off.checked_add(piece.len).is_some_and(|end| end <= size), id == 2, "{piece:?}");
    }
}
