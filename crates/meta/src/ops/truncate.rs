//! Cutting and growing a file (spec section 24.7). Records are never removed: holes hide what was cut off.

use async_trait::async_trait;
use shoal_format::{Attr, CHUNK_BYTES, Ino, SliceRecord};

use super::change::{Change, ChangeContext};
use super::length::{check_changeable, check_length, locked_file, resized};
use super::write::{Written, append};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::ChunkSlices;

/// Sets the length of a file.
pub(crate) struct Truncate {
    pub(crate) ino: Ino,
    pub(crate) length: u64,
}

#[async_trait]
impl Change for Truncate {
    type Output = Written;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Written, Effects), MetaError> {
        let before = locked_file(txn, self.ino).await?;
        check_changeable(self.ino, &before)?;
        check_length(self.ino, self.length)?;
        let (left, right) = (before.length.min(self.length), before.length.max(self.length));
        let mut lists = Vec::new();
        if left != right {
            let between = (left / CHUNK_BYTES) as u32 + 1..(right / CHUNK_BYTES) as u32;
            let listed = txn.chunks(self.ino, between).await?;
            let holes = holes_of_resize(self.ino, left, right, listed.iter().map(|chunk| chunk.index));
            lists = append(txn, &holes).await?;
        }
        let after = Attr { length: self.length, mtime: context.now, ctime: context.now, ..before.clone() };
        txn.update_attrs(&[(self.ino, after.clone())]).await?;
        let entry = || LogEntry::new("TRUNCATE").with(self.ino).with(before.length).with(self.length).with(0);
        context.log(txn, entry).await?;
        let effects = resized(txn, self.ino, &before, &after).await?;
        Ok((Written { before, after, lists }, effects))
    }
}

/// The holes that hide everything from `left` to `right`: in the first chunk and the last one whether they have a list or not,
/// in those of the chunks between that are `listed`.
fn holes_of_resize(ino: Ino, left: u64, right: u64, listed: impl Iterator<Item = u32>) -> Vec<ChunkSlices> {
    let hole = |index: u32, pos: u64, len: u64| ChunkSlices {
        ino,
        index,
        slices: vec![SliceRecord::hole(pos as u32, len as u32)],
    };
    let (first, last) = (left / CHUNK_BYTES, right / CHUNK_BYTES);
    let mut holes = vec![hole(first as u32, left % CHUNK_BYTES, right.min((first + 1) * CHUNK_BYTES) - left)];
    holes.extend(listed.map(|index| hole(index, 0, CHUNK_BYTES)));
    if last != first && !right.is_multiple_of(CHUNK_BYTES) {
        holes.push(hole(last as u32, 0, right % CHUNK_BYTES));
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_writes_the_records_of_real_clients() {
        // Spec section 24.7: a 10 MiB file cut to 3,000,000 and grown to 70,000,000 bytes.
        let cut = holes_of_resize(Ino(5), 3_000_000, 10 << 20, std::iter::empty());
        assert_eq!(cut[0].slices, [SliceRecord::hole(3_000_000, 7_485_760)]);
        assert_eq!(cut.len(), 1);
        let grown = holes_of_resize(Ino(5), 3_000_000, 70_000_000, std::iter::empty());
        assert_eq!(grown[0].slices, [SliceRecord::hole(3_000_000, 64_108_864)]);
        assert_eq!((grown[1].index, &grown[1].slices[..]), (1, &[SliceRecord::hole(0, 2_891_136)][..]));
    }

    #[test]
    fn whole_chunks_between_are_hidden_where_they_have_a_list() {
        let holes = holes_of_resize(Ino(5), CHUNK_BYTES - 1, 5 * CHUNK_BYTES, [2, 3].into_iter());
        let told: Vec<_> = holes.iter().map(|chunk| (chunk.index, chunk.slices[0].pos, chunk.slices[0].len)).collect();
        let chunk = CHUNK_BYTES as u32;
        assert_eq!(told, [(0, chunk - 1, 1), (2, 0, chunk), (3, 0, chunk)]);
    }
}
