//! Bytes of the slab file: segment heads, records and footers. Pure; version 1; little endian; every structure carries its CRC-32C.
//!
//! **Pages of 4 KiB** (fixed when a directory is made), the unit of the device: a read of 4 KiB moves 4 KiB once the block's table of
//! checksums is at hand. A checksum costs 4 bytes for each page: 4 KiB for a 4 MiB block, a GiB of tables for each TiB of cache if all of
//! them were kept. They are not: the table lies in the record's head, a whole block is read with its head in one I/O, and `table` keeps those
//! of blocks that are read in parts, 60 GiB of blocks in 64 MiB. DESIGN.md has the numbers for other page sizes.
//!
//! **Packed and aligned records.** A record of up to 8 KiB is packed: it starts at any multiple of 64 bytes, its data follows the head at
//! once, it is read whole in one I/O, and several share a 4 KiB sector when they were written together. The data of a larger record starts at
//! a sector, so that O_DIRECT reads any of its pages alone, and its head ends there: it takes the room that the record before left, so that a
//! block wastes half a sector on average.
//!
//! **Nothing stale comes back.** One counter for each directory numbers segments' writings and records; it never repeats, not across
//! restarts either. A record counts only if it names the number in its segment's head and its own is above the record's before it,
//! so what an earlier writing of the segment left behind is not taken for a record. (Were it, its bytes would still be right: a key
//! names immutable bytes. This keeps the accounting right too.)

use shoal_types::checksum::crc32c;
use shoal_types::{BlockId, MAX_BLOCK_BYTES, PageTable};

/// Unit of I/O: every offset and length that reaches the device is a multiple.
pub(crate) const SECTOR: u32 = 4096;
/// Packed records start at multiples of this.
pub(crate) const GRAIN: u32 = 64;
/// Records of at most this many bytes are packed: any read of them would touch most of their sectors.
pub(crate) const PACKED_MAX: u32 = 8 << 10;

const VERSION: u16 = 1;
const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"SHsg");
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"SHrc");
const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"SHft");

const SEGMENT_HEAD_BYTES: usize = 48;
const RECORD_FIXED_BYTES: usize = 64;
const FOOTER_ENTRY_BYTES: usize = 32;
const FOOTER_TAIL_BYTES: usize = 48;

/// The longest head a record can have; more is not one.
pub(crate) const HEAD_BYTES_MAX: u32 = 32 << 10;

fn round_up(n: u32, to: u32) -> u32 {
    n.next_multiple_of(to)
}

/// Writes fields one after the other.
struct Out<'a>(&'a mut [u8]);

impl Out<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let all = std::mem::take(&mut self.0);
        let (head, tail) = all.split_at_mut(N);
        head.copy_from_slice(&bytes);
        self.0 = tail;
    }
}

/// Reads fields one after the other; past the end it gives zeros, which no structure accepts.
struct In<'a>(&'a [u8]);

impl In<'_> {
    fn get<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.0 = tail;
                *head
            }
            None => [0; N],
        }
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.get())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.get())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.get())
    }
}

/// First page of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// Id of the directory.
    pub(crate) dir_id: [u8; 16],
    /// Number of the segment in its file.
    pub(crate) index: u32,
    /// Number of this writing of the segment.
    pub(crate) seq: u64,
}

impl SegmentHead {
    /// Fills the segment's first page.
    pub(crate) fn encode(&self, page: &mut [u8]) {
        page.fill(0);
        let mut out = Out(&mut page[..SEGMENT_HEAD_BYTES]);
        out.put(SEGMENT_MAGIC.to_le_bytes());
        out.put(VERSION.to_le_bytes());
        out.put([0; 2]);
        out.put(self.dir_id);
        out.put(self.index.to_le_bytes());
        out.put([0; 4]);
        out.put(self.seq.to_le_bytes());
        let crc = crc32c(&page[..SEGMENT_HEAD_BYTES - 4]);
        page[SEGMENT_HEAD_BYTES - 4..SEGMENT_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// The head in `page`, if it is one of this version.
    pub(crate) fn decode(page: &[u8]) -> Option<SegmentHead> {
        let bytes = page.get(..SEGMENT_HEAD_BYTES)?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let mut fields = In(body);
        let (magic, version, _) = (fields.u32(), fields.u16(), fields.u16());
        if magic != SEGMENT_MAGIC || version != VERSION || crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (dir_id, index, _) = (fields.get(), fields.u32(), fields.u32());
        Some(SegmentHead { dir_id, index, seq: fields.u64() })
    }
}

/// Where the parts of a record go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// First byte of the record, from the segment's start.
    pub(crate) start: u32,
    /// First byte of the data, from the record's start.
    pub(crate) data_off: u32,
    /// Bytes in the block.
    pub(crate) len: u32,
}

impl Place {
    /// The first place at or after byte `at` of a segment for a block of `len` bytes (at most [`MAX_BLOCK_BYTES`]).
    pub(crate) fn after(at: u32, key_len: usize, len: u32, page_bytes: u32) -> Place {
        let head = head_bytes(key_len, len, page_bytes);
        let packed = round_up(head, 8);
        if packed + len <= PACKED_MAX {
            return Place { start: round_up(at, GRAIN), data_off: packed, len };
        }
        let head = round_up(head, GRAIN);
        Place { start: round_up(at + head, SECTOR) - head, data_off: head, len }
    }

    /// One past the record's last byte, from the segment's start.
    pub(crate) fn end(&self) -> u32 {
        self.start + self.data_off + self.len
    }

    /// Whether the record is read whole in any case, because its pages do not lie in sectors of their own.
    pub(crate) fn is_packed(&self) -> bool {
        !(self.start + self.data_off).is_multiple_of(SECTOR)
    }
}

fn head_bytes(key_len: usize, len: u32, page_bytes: u32) -> u32 {
    RECORD_FIXED_BYTES as u32 + key_len as u32 + 4 * len.div_ceil(page_bytes)
}

/// What is at the start of a record, the key's bytes and the page checksums aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) id: BlockId,
    /// The segment's number when the record was written.
    pub(crate) segment_seq: u64,
    /// The record's own number.
    pub(crate) seq: u64,
    pub(crate) len: u32,
    pub(crate) data_off: u32,
    pub(crate) page_bytes: u32,
    /// When the block was stored: Unix time in seconds; 0 if nobody knows.
    pub(crate) written: u32,
    key_len: u16,
}

impl RecordHead {
    /// Fills `head`, the record's bytes before its data, from the checksums of the data's pages, which it gives back as a table.
    ///
    /// `key` is at most [`super::key::MAX_KEY_BYTES`] long.
    pub(crate) fn encode(
        head: &mut [u8],
        place: Place,
        page_bytes: u32,
        stamp: Stamp,
        key: &[u8],
        crcs: Box<[u32]>,
    ) -> PageTable {
        head.fill(0);
        let mut fields = Out(head);
        fields.put(RECORD_MAGIC.to_le_bytes());
        fields.put([0; 4]); // the CRC, below
        fields.put(VERSION.to_le_bytes());
        fields.put((key.len() as u16).to_le_bytes());
        fields.put(page_bytes.to_le_bytes());
        fields.put(stamp.id.0);
        fields.put(stamp.segment_seq.to_le_bytes());
        fields.put(stamp.seq.to_le_bytes());
        fields.put(place.len.to_le_bytes());
        fields.put(place.data_off.to_le_bytes());
        fields.put(stamp.written.to_le_bytes());
        fields.put([0; 4]);
        let mut at = RECORD_FIXED_BYTES;
        head[at..at + key.len()].copy_from_slice(key);
        at += key.len();
        for crc in &crcs {
            head[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            at += 4;
        }
        let crc = crc32c(&head[8..at]);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        PageTable::of_crcs(crcs, place.len, page_bytes).expect("one for each page was made")
    }

    /// The fixed part at the start of `bytes`, plausible but not yet checked: tells how many bytes the head has.
    fn peek(bytes: &[u8]) -> Option<(RecordHead, u32)> {
        let mut fields = In(bytes.get(..RECORD_FIXED_BYTES)?);
        let (magic, crc, version, key_len) = (fields.u32(), fields.u32(), fields.u16(), fields.u16());
        let page_bytes = fields.u32();
        if magic != RECORD_MAGIC || version != VERSION || !page_bytes_fit(page_bytes) {
            return None;
        }
        let (id, segment_seq, seq) = (BlockId(fields.get()), fields.u64(), fields.u64());
        let (len, data_off, written) = (fields.u32(), fields.u32(), fields.u32());
        let head = RecordHead { id, segment_seq, seq, len, data_off, page_bytes, written, key_len };
        (len <= MAX_BLOCK_BYTES && data_off <= HEAD_BYTES_MAX && head.bytes() <= data_off).then_some((head, crc))
    }

    /// Bytes of the head in use.
    fn bytes(&self) -> u32 {
        head_bytes(self.key_len.into(), self.len, self.page_bytes)
    }

    /// Bytes that [`RecordHead::decode`] needs to see of a record that starts at `bytes`, if there may be one.
    pub(crate) fn wanted(bytes: &[u8]) -> Option<usize> {
        RecordHead::peek(bytes).map(|(head, _)| head.bytes() as usize)
    }

    /// The head of the record that starts at `bytes`, if it is intact.
    fn intact(bytes: &[u8]) -> Option<RecordHead> {
        let (head, crc) = RecordHead::peek(bytes)?;
        let covered = bytes.get(8..head.bytes() as usize)?;
        (crc32c(covered) == crc).then_some(head)
    }

    /// The encoded key of the record that starts at `bytes`, if its head is intact.
    pub(crate) fn key(bytes: &[u8]) -> Option<&[u8]> {
        let head = RecordHead::intact(bytes)?;
        bytes.get(RECORD_FIXED_BYTES..RECORD_FIXED_BYTES + usize::from(head.key_len))
    }

    /// The head of the record that starts at `bytes` and its page checksums, if it is intact.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(RecordHead, PageTable)> {
        let head = RecordHead::intact(bytes)?;
        let table = &bytes[RECORD_FIXED_BYTES + usize::from(head.key_len)..head.bytes() as usize];
        let crcs = table.as_chunks::<4>().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
        Some((head, PageTable::of_crcs(crcs, head.len, head.page_bytes)?))
    }
}

/// Bytes copied before they are hashed: few enough for the processor's cache, and enough that it reads ahead (1 page: half the speed).
const COPY_BYTES: usize = 16 << 10;

/// Copies pages of a block to `to`, which is as long, and their checksums to `crcs`, one for each page.
pub(crate) fn copy_pages(to: &mut [u8], from: &[u8], page_bytes: u32, crcs: &mut [u32]) {
    let page = page_bytes as usize;
    let step = page.max(COPY_BYTES);
    let steps = to.chunks_mut(step).zip(from.chunks(step)).zip(crcs.chunks_mut(step / page));
    for ((to, from), crcs) in steps {
        to.copy_from_slice(from);
        to.chunks(page).zip(crcs).for_each(|(page, crc)| *crc = crc32c(page));
    }
}

/// Who a record is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) id: BlockId,
    pub(crate) segment_seq: u64,
    pub(crate) seq: u64,
    /// See [`RecordHead::written`].
    pub(crate) written: u32,
}

/// Whether a page may have this many bytes.
pub(crate) fn page_bytes_fit(page_bytes: u32) -> bool {
    page_bytes.is_power_of_two() && (4 << 10..=1 << 20).contains(&page_bytes)
}

/// A record as a footer lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FooterEntry {
    pub(crate) id: BlockId,
    pub(crate) place: Place,
    /// See [`RecordHead::written`].
    pub(crate) written: u32,
}

/// The end of a full segment: what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) segment_seq: u64,
    /// The highest record number in the segment.
    pub(crate) last_seq: u64,
    pub(crate) entries: Vec<FooterEntry>,
}

impl Footer {
    /// Bytes at the segment's end that a footer of `entries` records takes.
    pub(crate) fn bytes_for(entries: usize) -> u32 {
        round_up((entries * FOOTER_ENTRY_BYTES + FOOTER_TAIL_BYTES) as u32, SECTOR)
    }

    /// Fills `out`, which is [`Footer::bytes_for`] long: zeros, the entries, the tail.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        let used = self.entries.len() * FOOTER_ENTRY_BYTES + FOOTER_TAIL_BYTES;
        let (slack, body) = out.split_at_mut(out.len() - used);
        slack.fill(0);
        let mut fields = Out(&mut *body);
        for FooterEntry { id, place, written } in &self.entries {
            fields.put(id.0);
            fields.put(place.start.to_le_bytes());
            fields.put(place.data_off.to_le_bytes());
            fields.put(place.len.to_le_bytes());
            fields.put(written.to_le_bytes());
        }
        fields.put(FOOTER_MAGIC.to_le_bytes());
        fields.put(VERSION.to_le_bytes());
        fields.put([0; 2]);
        fields.put(self.segment_seq.to_le_bytes());
        fields.put(self.last_seq.to_le_bytes());
        fields.put((self.entries.len() as u32).to_le_bytes());
        fields.put([0; 16]);
        let crc = crc32c(&body[..used - 4]);
        body[used - 4..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Bytes of the footer whose tail ends the segment's last sector, if it looks like the one of `segment_seq`.
    pub(crate) fn wanted(last_sector: &[u8], segment_seq: u64) -> Option<u32> {
        let tail = last_sector.last_chunk::<FOOTER_TAIL_BYTES>()?;
        let mut fields = In(tail);
        let (magic, version, _, seq) = (fields.u32(), fields.u16(), fields.u16(), fields.u64());
        let (_, count) = (fields.u64(), fields.u32());
        let plausible =
            magic == FOOTER_MAGIC && version == VERSION && seq == segment_seq && count <= FOOTER_ENTRIES_MAX;
        plausible.then(|| Footer::bytes_for(count as usize))
    }

    /// The footer in `bytes`, which end with the segment and are [`Footer::wanted`] long, if it is intact.
    pub(crate) fn decode(bytes: &[u8], segment_seq: u64) -> Option<Footer> {
        let mut tail = In(bytes.last_chunk::<FOOTER_TAIL_BYTES>()?);
        let (_, _, seq, last_seq, count) = (tail.u32(), tail.u32(), tail.u64(), tail.u64(), tail.u32());
        let used = count as usize * FOOTER_ENTRY_BYTES + FOOTER_TAIL_BYTES;
        let body = bytes.get(bytes.len().checked_sub(used)?..)?;
        let (covered, crc) = body.split_last_chunk::<4>()?;
        if seq != segment_seq || crc32c(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut fields = In(covered);
        let entries = (0..count)
            .map(|_| {
                let id = BlockId(fields.get());
                let (start, data_off, len, written) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
                FooterEntry { id, place: Place { start, data_off, len }, written }
            })
            .collect();
        Some(Footer { segment_seq, last_seq, entries })
    }
}

/// More records than fit in the largest segment: bounds what a damaged footer makes us read.
const FOOTER_ENTRIES_MAX: u32 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { id: BlockId(*b"0123456789abcdef"), segment_seq: 7, seq: 9, written: 0x0102_0304 };

    fn record(data: &[u8]) -> (Vec<u8>, PageTable) {
        let place = Place::after(0, 3, data.len() as u32, 4096);
        let mut out = vec![0xee; (place.end() - place.start) as usize];
        let (head, body) = out.split_at_mut(place.data_off as usize);
        let mut crcs = vec![0; data.len().div_ceil(4096)].into_boxed_slice();
        copy_pages(body, data, 4096, &mut crcs);
        let table = RecordHead::encode(head, place, 4096, STAMP, b"key", crcs);
        (out, table)
    }

    #[test]
    fn a_record_survives_and_every_flipped_bit_of_its_head_is_seen() {
        let (bytes, table) = record(&[5; 10_000]);
        let (head, read) = RecordHead::decode(&bytes).unwrap();
        assert_eq!((head.id, head.segment_seq, head.seq, head.len), (STAMP.id, 7, 9, 10_000));
        assert_eq!(read, table);
        assert!(table.matches(0, &bytes[head.data_off as usize..]));
        for at in 0..head.bytes() as usize {
            for bit in 0..8 {
                let mut torn = bytes.clone();
                torn[at] ^= 1 << bit;
                assert_eq!(RecordHead::decode(&torn), None, "byte {at} bit {bit}");
            }
        }
        for cut in 0..head.bytes() as usize {
            assert_eq!(RecordHead::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn record_bytes_are_pinned() {
        let (bytes, _) = record(b"data");
        assert_eq!(bytes.len(), 76);
        let golden = "53487263be94dd32";
        let hex: String = bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        let rest = [
            &[1, 0, 3, 0, 0, 16, 0, 0][..],
            b"0123456789abcdef",
            &[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 72, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0],
            b"key",
            &crc32c(b"data").to_le_bytes(),
            &[0],
            b"data",
        ];
        assert_eq!(bytes[8..], rest.concat());
    }

    #[test]
    fn small_records_share_a_sector_and_the_data_of_large_ones_starts_at_one() {
        let first = Place::after(4096, 60, 300, 4096);
        let second = Place::after(first.end(), 60, 300, 4096);
        assert!(first.is_packed() && second.is_packed() && second.end() <= 8192);
        for (len, page_bytes) in
            [(PACKED_MAX, 4096), (20_000, 4096), (4 << 20, 4096), (16 << 20, 4096), (4 << 20, 16 << 10)]
        {
            let mut at = second.end();
            for _ in 0..3 {
                let large = Place::after(at, 60, len, page_bytes);
                let data = large.start + large.data_off;
                assert!(
                    !large.is_packed() && data.is_multiple_of(SECTOR) && large.start.is_multiple_of(GRAIN),
                    "{large:?}"
                );
                assert!((at..at + SECTOR).contains(&large.start) && large.data_off >= head_bytes(60, len, page_bytes));
                at = large.end();
            }
        }
        let whole = Place::after(0, 60, 4 << 20, 4096);
        assert_eq!(
            (whole.start + whole.data_off, whole.end()),
            (2 * SECTOR, 2 * SECTOR + (4 << 20)),
            "two sectors for its head"
        );
    }

    #[test]
    fn a_segment_head_survives_and_every_flipped_bit_is_seen() {
        let head = SegmentHead { dir_id: [3; 16], index: 5, seq: 1 << 40 };
        let mut page = vec![0xee; 4096];
        head.encode(&mut page);
        assert_eq!(SegmentHead::decode(&page), Some(head));
        for bit in 0..SEGMENT_HEAD_BYTES * 8 {
            let mut torn = page.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHead::decode(&torn), None, "bit {bit}");
        }
    }

    #[test]
    fn a_footer_survives_and_every_flipped_bit_is_seen() {
        let entry = |n: u8| FooterEntry {
            id: BlockId([n; 16]),
            place: Place { start: u32::from(n) * 64, data_off: 72, len: 30 },
            written: 1_700_000_000 + u32::from(n),
        };
        for count in [0, 1, 5, 126, 127, 200] {
            let footer = Footer { segment_seq: 7, last_seq: 99, entries: (0..count).map(entry).collect() };
            let mut bytes = vec![0xee; Footer::bytes_for(count.into()) as usize];
            footer.encode(&mut bytes);
            let last = &bytes[bytes.len() - 4096..];
            assert_eq!(Footer::wanted(last, 7), Some(bytes.len() as u32));
            assert_eq!(Footer::wanted(last, 8), None, "a footer of another writing");
            assert_eq!(Footer::decode(&bytes, 7), Some(footer));
            let used = usize::from(count) * FOOTER_ENTRY_BYTES + FOOTER_TAIL_BYTES;
            for bit in ((bytes.len() - used) * 8..bytes.len() * 8).step_by(7) {
                let mut torn = bytes.clone();
                torn[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Footer::decode(&torn, 7), None, "bit {bit}");
            }
        }
    }
}
