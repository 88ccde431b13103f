//! An owner's locks of ranges: how they split and merge (fcntl(2), `F_SETLK`).

use shoal_format::{LockMode, RangeLock};

/// True if two owners may not hold these at the same time.
pub(super) fn conflict(one: &RangeLock, other: &RangeLock) -> bool {
    let exclusive = one.mode == LockMode::Exclusive || other.mode == LockMode::Exclusive;
    exclusive && one.start <= other.end && other.start <= one.end
}

/// An owner's locks once it holds `new` too, which takes the place of what it held there.
pub(super) fn with(held: &[RangeLock], new: RangeLock) -> Vec<RangeLock> {
    let mut locks = without(held, new.start, new.end);
    locks.push(new);
    merged(locks)
}

/// An owner's locks once it gave back the bytes from `start` to `end`, inclusive.
pub(super) fn without(held: &[RangeLock], start: u64, end: u64) -> Vec<RangeLock> {
    let mut left = Vec::with_capacity(held.len() + 1);
    for lock in held {
        if lock.end < start || end < lock.start {
            left.push(*lock);
            continue;
        }
        if lock.start < start {
            left.push(RangeLock { end: start - 1, ..*lock });
        }
        if end < lock.end {
            left.push(RangeLock { start: end + 1, ..*lock });
        }
    }
    merged(left)
}

/// Disjoint locks in order, neighbours of one kind as one: what is stored stays short.
fn merged(mut locks: Vec<RangeLock>) -> Vec<RangeLock> {
    locks.sort_unstable_by_key(|lock| lock.start);
    locks.dedup_by(|next, last| {
        let continues = last.end.checked_add(1) == Some(next.start);
        let same = continues && last.mode == next.mode && last.pid == next.pid;
        if same {
            last.end = next.end;
        }
        same
    });
    locks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that the model tells apart; the last one stands for all from there to the end.
    const BYTES: usize = 6;

    type Map = [Option<(LockMode, u32)>; BYTES];

    fn offset(byte: usize) -> u64 {
        if byte == BYTES - 1 { RangeLock::END } else { byte as u64 }
    }

    /// What the locks say of each byte, after a check that they are stored as they should be.
    fn map(locks: &[RangeLock]) -> Map {
        assert!(locks.windows(2).all(|pair| pair[0].end < pair[1].start), "overlap or disorder: {locks:?}");
        let one = |pair: &[RangeLock]| pair[0].end + 1 == pair[1].start && same_kind(&pair[0], &pair[1]);
        assert!(!locks.windows(2).any(one), "neighbours of one kind: {locks:?}");
        std::array::from_fn(|byte| {
            let at = offset(byte);
            locks.iter().find(|lock| (lock.start..=lock.end).contains(&at)).map(|lock| (lock.mode, lock.pid))
        })
    }

    fn same_kind(one: &RangeLock, other: &RangeLock) -> bool {
        one.mode == other.mode && one.pid == other.pid
    }

    /// First and last byte, and the lock that is asked for, with its process; none gives back.
    type Asked = (usize, usize, Option<(LockMode, u32)>);

    /// Every request: a range, and what it becomes.
    fn requests() -> Vec<Asked> {
        let kinds = [None, Some((LockMode::Shared, 7)), Some((LockMode::Exclusive, 7)), Some((LockMode::Shared, 8))];
        let ranges = (0..BYTES).flat_map(|first| (first..BYTES).map(move |last| (first, last)));
        ranges.flat_map(|(first, last)| kinds.map(|kind| (first, last, kind))).collect()
    }

    #[test]
    fn every_history_of_three_requests_ends_like_a_map_of_bytes() {
        let all = requests();
        let apply = |locks: &[RangeLock], model: Map, (first, last, kind): (usize, usize, Option<(LockMode, u32)>)| {
            // A range may begin at any byte but the end itself, which only a whole tail holds.
            let (start, end) = (first as u64, offset(last));
            let mut model = model;
            model[first..=last].fill(kind);
            let locks = match kind {
                Some((mode, pid)) => with(locks, RangeLock { mode, pid, start, end }),
                None => without(locks, start, end),
            };
            assert_eq!(map(&locks), model, "after {first}..={last} became {kind:?}");
            (locks, model)
        };
        let mut histories = 0;
        for one in &all {
            let (locks, model) = apply(&[], [None; BYTES], *one);
            for two in &all {
                let (locks, model) = apply(&locks, model, *two);
                for three in &all {
                    apply(&locks, model, *three);
                    histories += 1;
                }
            }
        }
        assert_eq!(histories, 84 * 84 * 84);
    }

    #[test]
    fn only_shared_locks_overlap() {
        let lock = |mode, start, end| RangeLock { mode, pid: 1, start, end };
        let held = lock(LockMode::Shared, 10, 19);
        for (start, end, touches) in [(0, 9, false), (0, 10, true), (12, 13, true), (19, 99, true), (20, 99, false)] {
            assert!(!conflict(&held, &lock(LockMode::Shared, start, end)));
            assert_eq!(conflict(&held, &lock(LockMode::Exclusive, start, end)), touches, "{start}..={end}");
            assert_eq!(conflict(&lock(LockMode::Exclusive, 10, 19), &lock(LockMode::Shared, start, end)), touches);
        }
    }

    #[test]
    fn the_end_of_the_file_has_no_successor() {
        let tail = |start| RangeLock { mode: LockMode::Exclusive, pid: 1, start, end: u64::MAX };
        assert_eq!(with(&[tail(5)], tail(0)), [tail(0)]);
        assert_eq!(without(&[tail(0)], 0, u64::MAX), []);
    }
}
