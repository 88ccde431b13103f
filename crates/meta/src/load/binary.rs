//! Reads a binary dump, ours or that of a real client: each record as it was, but slices are counted anew.

use std::io::{self, Read};

use bytes::Bytes;
use shoal_format::{AclRule, Attr, Dentry, FileType, Ino, Settings, SliceRecord};
use tokio::sync::mpsc::Sender;

use super::batch::{Batch, Found, Totals};
use crate::dump::binary::{END, kind};
use crate::engine::DeletedFile;
use crate::error::MetaError;
use crate::id_set::IdSet;
use crate::proto::{Value, fields, numbers};
use crate::quota::{Quota, QuotaKey};
use crate::record::{ChunkSlices, DirUsage, NewDentry, ParentCount, SliceRef, Xattr};

/// Longest segment: real clients hold some ten thousand records in one.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Reads all of `input`; what is found goes to `out`.
pub(super) fn read(mut input: impl Read, out: Sender<Found>) -> Result<(), MetaError> {
    let mut reader = Reader {
        out,
        batch: Batch::default(),
        inodes: IdSet::default(),
        slices: IdSet::default(),
        totals: Totals::default(),
        begun: false,
    };
    loop {
        let number = u32::from_be_bytes(exact(&mut input)?);
        if number == END {
            return reader.finish();
        }
        let len = u64::from_be_bytes(exact(&mut input)?);
        if len > SEGMENT_BYTES_MAX {
            return Err(wrong("a segment is longer than 1 GiB"));
        }
        let mut payload = Vec::new();
        let read = (&mut input).take(len).read_to_end(&mut payload).map_err(unreadable)?;
        if read as u64 != len {
            return Err(wrong("it ends too early"));
        }
        reader.segment(number, &payload)?;
    }
}

fn exact<const N: usize>(input: &mut impl Read) -> Result<[u8; N], MetaError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong("it ends too early"),
        _ => unreadable(error),
    })?;
    Ok(bytes)
}

fn unreadable(error: io::Error) -> MetaError {
    MetaError::invalid(format!("cannot read the dump: {error}"))
}

fn wrong(what: &str) -> MetaError {
    MetaError::invalid(format!("the dump cannot be loaded: {what}"))
}

/// What a binary dump says of one kind of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Name of the kind.
    pub name: String,
    /// Records of it.
    pub count: u64,
    /// Where its segments begin.
    pub offsets: Vec<u64>,
}

/// The version and index of the binary dump whose footer these bytes are, by name; `None` for bytes that are none.
pub fn segments(footer: &[u8]) -> Option<(u64, Vec<Segment>)> {
    let (mut magic, mut version, mut found) = (0, 0, Vec::new());
    for (field, value) in fields(footer)? {
        match field {
            1 => magic = value.int(),
            2 => version = value.int(),
            3 => {
                let (mut name, mut info) = ("", &[][..]);
                for (field, value) in fields(value.bytes())? {
                    match field {
                        1 => name = std::str::from_utf8(value.bytes()).ok()?,
                        2 => info = value.bytes(),
                        _ => {}
                    }
                }
                let mut segment = Segment { name: name.to_owned(), count: 0, offsets: Vec::new() };
                for (field, value) in fields(info)? {
                    match field {
                        1 => segment.offsets = numbers(value.bytes())?,
                        2 => segment.count = value.int(),
                        _ => {}
                    }
                }
                found.push(segment);
            }
            _ => {}
        }
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    (magic == u64::from(END)).then_some((version, found))
}

/// Fields of a record by number, the last of each.
struct Record<'a>([Value<'a>; 8]);

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Record<'a>, MetaError> {
        let mut record = Record([Value::Int(0); 8]);
        for (field, value) in fields(bytes).ok_or_else(|| wrong("a record breaks its form"))? {
            if let Some(known) = record.0.get_mut(field as usize) {
                *known = value;
            }
        }
        Ok(record)
    }

    fn int(&self, field: usize) -> u64 {
        self.0[field].int()
    }

    fn signed(&self, field: usize) -> i64 {
        self.int(field) as i64
    }

    fn ino(&self, field: usize) -> Ino {
        Ino(self.int(field))
    }

    fn bytes(&self, field: usize) -> &'a [u8] {
        self.0[field].bytes()
    }

    fn owned(&self, field: usize) -> Bytes {
        Bytes::copy_from_slice(self.bytes(field))
    }
}

struct Reader {
    out: Sender<Found>,
    batch: Batch,
    inodes: IdSet,
    slices: IdSet,
    totals: Totals,
    begun: bool,
}

impl Reader {
    fn send(&self, found: Found) -> Result<(), MetaError> {
        self.out.blocking_send(found).map_err(|_| MetaError::Stopped { what: "the load" })
    }

    fn segment(&mut self, number: u32, payload: &[u8]) -> Result<(), MetaError> {
        let parts = fields(payload).ok_or_else(|| wrong("a segment breaks its form"))?;
        for (field, value) in parts {
            if number == kind::FORMAT.0 {
                self.setting(value.bytes())?;
                continue;
            }
            if !self.begun {
                return Err(wrong("it does not begin with a setting"));
            }
            self.record(number, field, &Record::parse(value.bytes())?)?;
            if self.batch.is_full() {
                let batch = std::mem::take(&mut self.batch);
                self.send(Found::Batch(batch))?;
            }
        }
        Ok(())
    }

    fn setting(&mut self, json: &[u8]) -> Result<(), MetaError> {
        let json = std::str::from_utf8(json).map_err(|_| wrong("its setting is no text"))?;
        self.begun = true;
        self.send(Found::Settings(Box::new(Settings::parse(json)?)))
    }

    fn record(&mut self, number: u32, field: u32, record: &Record<'_>) -> Result<(), MetaError> {
        let batch = &mut self.batch;
        match (number, field) {
            (2, _) => self.counter(record),
            (3, _) => return self.node(record),
            (4, _) => {
                let kind = u8::try_from(record.int(4)).ok().and_then(FileType::from_u8);
                let kind = kind.ok_or_else(|| wrong("a name has no known type"))?;
                let dentry = Dentry { kind, ino: record.ino(2) };
                batch.dentries.push(NewDentry { parent: record.ino(1), name: record.owned(3), dentry });
            }
            (5, _) => return self.chunk(record),
            (7, _) => batch.symlinks.push((record.ino(1), record.owned(2))),
            (8, _) => {
                let inos = numbers(record.bytes(2)).ok_or_else(|| wrong("a record breaks its form"))?;
                batch.sustained.extend(inos.into_iter().map(|ino| (record.int(1), Ino(ino))));
            }
            (9, _) => {
                let file = DeletedFile { ino: record.ino(1), length: record.int(2), removed: record.signed(3) };
                batch.deleted_files.push(file);
            }
            (10, _) => {
                batch.xattrs.push(Xattr { ino: record.ino(1), name: record.owned(2), value: record.owned(3) });
            }
            (11, _) => {
                let id = u32::try_from(record.int(1)).map_err(|_| wrong("an ACL rule has an impossible number"))?;
                self.totals.acls.push((id, AclRule::decode(record.bytes(2))?));
            }
            (12, _) => {
                let usage = DirUsage { length: record.signed(2), space: record.signed(3), inodes: record.signed(4) };
                batch.usage.push((record.ino(1), usage));
            }
            (13, 11) => self.quota(QuotaKey::Dir(record.ino(1)), record),
            (13, 15) => self.quota(QuotaKey::User(owner(record)?), record),
            (13, 16) => self.quota(QuotaKey::Group(owner(record)?), record),
            (14, _) => {
                let (ino, parent, count) = (record.ino(1), record.ino(2), record.signed(3));
                batch.parents.push(ParentCount { ino, parent, count });
            }
            // Counts of slices are counted; what else there may be belongs to newer clients.
            _ => {}
        }
        Ok(())
    }

    fn quota(&mut self, key: QuotaKey, record: &Record<'_>) {
        self.totals.quotas.push(Quota {
            key,
            max_space: record.signed(2),
            max_inodes: record.signed(3),
            used_space: record.signed(4),
            used_inodes: record.signed(5),
        });
    }

    fn counter(&mut self, record: &Record<'_>) {
        let (value, totals) = (record.signed(2), &mut self.totals);
        match record.bytes(1) {
            b"nextInode" => totals.next_inode = totals.next_inode.max(value.max(0) as u64),
            b"nextChunk" => totals.next_slice = totals.next_slice.max(value.max(0) as u64),
            b"nextTrash" => totals.last_trash = totals.last_trash.max(value.max(0) as u64),
            b"usedSpace" => totals.space = value,
            b"totalInodes" => totals.inodes = value,
            _ => {}
        }
    }

    /// An inode. One that comes twice, as a scan of a key-value store gives it, is the same.
    fn node(&mut self, record: &Record<'_>) -> Result<(), MetaError> {
        let ino = record.ino(1);
        if self.inodes.insert(ino.0) {
            self.batch.attrs.push((ino, Attr::decode(record.bytes(2))?));
        }
        Ok(())
    }

    fn chunk(&mut self, record: &Record<'_>) -> Result<(), MetaError> {
        let index = u32::try_from(record.int(2)).map_err(|_| wrong("a chunk has an impossible number"))?;
        let slices = SliceRecord::decode_list(record.bytes(3))?;
        self.batch.records += slices.len();
        for record in slices.iter().filter(|record| record.id != 0) {
            self.totals.next_slice = self.totals.next_slice.max(record.id.saturating_add(1));
            let one = SliceRef { id: record.id, size: record.size, count: 1 };
            let new = self.slices.insert(record.id);
            if new { self.batch.new_slices.push(one) } else { self.batch.more_refs.push(one) }
        }
        if !slices.is_empty() {
            self.batch.chunks.push(ChunkSlices { ino: record.ino(1), index, slices });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), MetaError> {
        if !self.inodes.contains(Ino::ROOT.0) {
            return Err(wrong("it holds no volume"));
        }
        let batch = std::mem::take(&mut self.batch);
        self.send(Found::Batch(batch))?;
        let totals = std::mem::take(&mut self.totals);
        self.send(Found::End(totals))
    }
}

/// The user or group of a quota.
fn owner(record: &Record<'_>) -> Result<u32, MetaError> {
    u32::try_from(record.int(1)).map_err(|_| wrong("a quota is of an impossible user or group"))
}
