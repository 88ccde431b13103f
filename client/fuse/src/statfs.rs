//! How full a volume looks to `df`: JuiceFS's rules, which give a volume without limits a size that never looks full.

use shoal_meta::StatFs;

/// Bytes one block of the answer stands for.
pub(crate) const BLOCK_BYTES: u32 = 4096;

/// Size shown of a volume without a limit, in bytes; doubled until a fifth of it is free.
const UNLIMITED_BYTES: u64 = 1 << 50;

/// Free inodes shown of a volume without a limit; doubled until they are a fifth of all.
const UNLIMITED_INODES: u64 = 10 << 20;

/// Space and inodes as the kernel wants them.
#[derive(Debug, PartialEq, Eq)]
pub struct Space {
    /// Blocks of 4 KiB.
    pub blocks: u64,
    /// Those that are free.
    pub blocks_free: u64,
    /// Inodes, used and free.
    pub files: u64,
    /// Those that are free.
    pub files_free: u64,
}

impl Space {
    /// What a volume of this use shows.
    pub fn of(stat: &StatFs) -> Space {
        let total = match stat.capacity {
            0 => unlimited_bytes(stat.used_bytes),
            capacity => capacity.max(stat.used_bytes),
        };
        let files_free = match stat.inodes {
            0 => unlimited_inodes(stat.used_inodes),
            inodes => inodes.saturating_sub(stat.used_inodes),
        };
        let block = u64::from(BLOCK_BYTES);
        Space {
            blocks: (total / block).max(1),
            blocks_free: (total - stat.used_bytes) / block,
            files: stat.used_inodes.saturating_add(files_free),
            files_free,
        }
    }

    /// Bytes that are free.
    pub fn bytes_free(&self) -> u64 {
        self.blocks_free * u64::from(BLOCK_BYTES)
    }
}

fn unlimited_bytes(used: u64) -> u64 {
    let mut total = UNLIMITED_BYTES;
    while total.saturating_mul(8) < used.saturating_mul(10) {
        total = total.saturating_mul(2);
    }
    total.max(used)
}

fn unlimited_inodes(used: u64) -> u64 {
    let mut free = UNLIMITED_INODES;
    while used.saturating_mul(10) > used.saturating_add(free).saturating_mul(8) {
        free = free.saturating_mul(2);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(used_bytes: u64, used_inodes: u64, capacity: u64, inodes: u64) -> Space {
        Space::of(&StatFs { used_bytes, used_inodes, capacity, inodes })
    }

    #[test]
    fn a_volume_without_limits_is_large_and_never_full() {
        let empty = space(0, 1, 0, 0);
        assert_eq!((empty.blocks, empty.blocks_free), (1 << 38, 1 << 38));
        assert_eq!((empty.files, empty.files_free), ((10 << 20) + 1, 10 << 20));
        for used in [1 << 50, 1 << 60, u64::MAX] {
            let full = space(used, used, 0, 0);
            assert!(full.blocks >= used / 4096 && full.files >= full.files_free);
        }
    }

    #[test]
    fn limits_show_as_they_are_and_never_below_the_use() {
        let half = space(1 << 30, 40, 2 << 30, 100);
        assert_eq!(half, Space { blocks: 1 << 19, blocks_free: 1 << 18, files: 100, files_free: 60 });
        let over = space(3 << 30, 200, 2 << 30, 100);
        assert_eq!((over.blocks_free, over.files, over.files_free), (0, 200, 0));
    }
}
