//! The binary dump (spec section 27.2): every record as it is, table by table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shoal_format::{Ino, SliceRecord};
use tokio::sync::mpsc::Sender;

use super::Sink;
use crate::engine::{Records, Serial};
use crate::error::MetaError;
use crate::meta::Meta;
use crate::proto::Message;
use crate::quota::{Quota, QuotaKind};
use crate::record::{Counter, IdKind};

/// Records of a segment at most; memory holds one.
const PAGE: usize = 4096;
/// Ends the segments.
pub(crate) const END: u32 = 0x0074_7083;

/// Of the format.
const VERSION: u64 = 1;

/// Segments of every record that a scan gives.
macro_rules! table {
    ($segments:expr, $kind:expr, $scan:ident, |$record:pat_param| $message:expr) => {{
        let mut from = Bytes::new();
        loop {
            let page = $segments.records.$scan(&from, PAGE).await?;
            let records: Vec<Message> = page.records.into_iter().map(|$record| $message).collect();
            $segments.batch($kind, records).await?;
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }};
}

/// Kinds of segments, and fields of the batches they hold.
pub(crate) mod kind {
    /// Number of a kind, its name in the footer, and the field of its records in a batch.
    pub(crate) type Kind = (u32, &'static str, u32);
    pub(crate) const FORMAT: Kind = (1, "format", 0);
    pub(crate) const COUNTER: Kind = (2, "counter", 13);
    pub(crate) const NODE: Kind = (3, "node", 1);
    pub(crate) const EDGE: Kind = (4, "edge", 2);
    pub(crate) const CHUNK: Kind = (5, "chunk", 3);
    pub(crate) const SLICE_REF: Kind = (6, "sliceRef", 4);
    pub(crate) const SYMLINK: Kind = (7, "symlink", 7);
    pub(crate) const SUSTAINED: Kind = (8, "sustained", 8);
    pub(crate) const DELETED_FILE: Kind = (9, "delFile", 9);
    pub(crate) const XATTR: Kind = (10, "xattr", 5);
    pub(crate) const ACL: Kind = (11, "acl", 12);
    pub(crate) const DIR_USAGE: Kind = (12, "stat", 10);
    pub(crate) const QUOTA: Kind = (13, "quota", 11);
    pub(crate) const USER_QUOTA: Kind = (13, "quota", 15);
    pub(crate) const GROUP_QUOTA: Kind = (13, "quota", 16);
    pub(crate) const PARENT: Kind = (14, "parent", 6);
}
use kind::Kind;

/// Dumps the volume of `meta` in the binary form, in parts, to `out`. `names` counts names dumped so far.
///
/// Errors: `Cancelled` where nobody takes it any more; what the database reports.
pub async fn dump_binary(
    meta: &Meta,
    keep_secrets: bool,
    out: Sender<Bytes>,
    names: &AtomicU64,
) -> Result<(), MetaError> {
    let mut settings = meta.settings().await?;
    if !keep_secrets {
        settings.remove_secrets();
    }
    let sink = Sink { out, text: Default::default() };
    let mut segments = Segments { records: meta.engine().records(), sink, at: 0, index: BTreeMap::new() };
    let setting = Message::default().bytes(1, settings.to_json().as_bytes());
    segments.put(kind::FORMAT, 1, setting).await?;
    segments.counters().await?;
    let linked = segments.nodes().await?;
    segments.contents().await?;
    segments.names(names).await?;
    segments.parents(&linked).await?;
    segments.belongings().await?;
    segments.use_of_it().await?;
    segments.finish().await
}

/// Writes segments and remembers where they are.
struct Segments<'a> {
    records: &'a dyn Records,
    sink: Sink,
    at: u64,
    /// Where the segments of a kind begin, and how many records they hold.
    index: BTreeMap<&'static str, (Vec<u64>, u64)>,
}

impl Segments<'_> {
    async fn put(&mut self, (number, name, _): Kind, count: usize, payload: Message) -> Result<(), MetaError> {
        let payload = payload.into_bytes();
        let known = self.index.entry(name).or_default();
        known.0.push(self.at);
        known.1 += count as u64;
        self.at += 12 + payload.len() as u64;
        self.sink.put(&number.to_be_bytes()).await?;
        self.sink.put(&(payload.len() as u64).to_be_bytes()).await?;
        self.sink.put(&payload).await
    }

    /// A segment of these records, also if there are none.
    async fn batch(&mut self, kind: Kind, records: impl IntoIterator<Item = Message>) -> Result<(), MetaError> {
        let (mut batch, mut count) = (Message::default(), 0);
        for record in records {
            batch = batch.message(kind.2, record);
            count += 1;
        }
        self.put(kind, count, batch).await
    }

    async fn counters(&mut self) -> Result<(), MetaError> {
        let records = self.records;
        let counters = [
            ("nextInode", records.next_id(IdKind::Inode).await? as i64),
            ("nextChunk", records.next_id(IdKind::Slice).await? as i64),
            ("nextSession", records.last_serial(Serial::Session).await? as i64),
            ("usedSpace", records.counter(Counter::UsedSpace).await?),
            ("totalInodes", records.counter(Counter::TotalInodes).await?),
            ("nextTrash", records.last_serial(Serial::TrashDir).await? as i64),
        ];
        let counter = |(name, value): (&str, i64)| Message::default().bytes(1, name.as_bytes()).signed(2, value);
        self.batch(kind::COUNTER, counters.map(counter)).await
    }

    /// Attributes; gives the files whose parents are counted apart.
    async fn nodes(&mut self) -> Result<Vec<Ino>, MetaError> {
        let mut linked = Vec::new();
        table!(self, kind::NODE, scan_attrs, |(ino, attr)| {
            if attr.parent == Ino::NONE {
                linked.push(ino);
            }
            Message::default().int(1, ino.0).bytes(2, &attr.encode())
        });
        Ok(linked)
    }

    async fn contents(&mut self) -> Result<(), MetaError> {
        table!(self, kind::CHUNK, scan_chunks, |list| {
            let records = SliceRecord::encode_list(&list.slices);
            Message::default().int(1, list.ino.0).int(2, list.index.into()).bytes(3, &records)
        });
        Ok(())
    }

    async fn names(&mut self, names: &AtomicU64) -> Result<(), MetaError> {
        table!(self, kind::EDGE, scan_dentries, |new| {
            names.fetch_add(1, Ordering::Relaxed);
            let message = Message::default().int(1, new.parent.0).int(2, new.dentry.ino.0);
            message.bytes(3, &new.name).int(4, new.dentry.kind as u64)
        });
        Ok(())
    }

    async fn parents(&mut self, linked: &[Ino]) -> Result<(), MetaError> {
        for part in linked.chunks(PAGE) {
            let mut records = Vec::new();
            for ino in part {
                records.extend(self.records.parents(*ino).await?);
            }
            let message = records
                .into_iter()
                .map(|parent| Message::default().int(1, parent.ino.0).int(2, parent.parent.0).signed(3, parent.count));
            self.batch(kind::PARENT, message).await?;
        }
        Ok(())
    }

    async fn belongings(&mut self) -> Result<(), MetaError> {
        table!(self, kind::SYMLINK, scan_symlinks, |(ino, target)| {
            Message::default().int(1, ino.0).bytes(2, &target)
        });
        table!(self, kind::SUSTAINED, scan_sustained, |(sid, ino)| Message::default().int(1, sid).packed(2, [ino.0]));
        table!(self, kind::DELETED_FILE, scan_deleted_files, |file| {
            Message::default().int(1, file.ino.0).int(2, file.length).signed(3, file.removed)
        });
        let mut from = Bytes::new();
        loop {
            let page = self.records.scan_slice_refs(&from, PAGE).await?;
            let many = page.records.iter().filter(|slice| slice.count > 1);
            let message = many
                .map(|slice| Message::default().int(1, slice.id).int(2, slice.size.into()).int(3, slice.count.into()));
            self.batch(kind::SLICE_REF, message.collect::<Vec<_>>()).await?;
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        table!(self, kind::ACL, scan_acls, |(id, rule)| Message::default().int(1, id.into()).bytes(2, &rule.encode()));
        table!(self, kind::XATTR, scan_xattrs, |xattr| {
            Message::default().int(1, xattr.ino.0).bytes(2, &xattr.name).bytes(3, &xattr.value)
        });
        Ok(())
    }

    async fn use_of_it(&mut self) -> Result<(), MetaError> {
        let kinds = [kind::QUOTA, kind::USER_QUOTA, kind::GROUP_QUOTA];
        for (of, kind) in [QuotaKind::Dir, QuotaKind::User, QuotaKind::Group].into_iter().zip(kinds) {
            let quotas = self.records.quotas(of).await?;
            let message = |quota: &Quota| {
                let key = Message::default().int(1, quota.key.number());
                let limits = key.signed(2, quota.max_space).signed(3, quota.max_inodes);
                // Zero, which is not written, is a directory.
                limits.signed(4, quota.used_space).signed(5, quota.used_inodes).int(6, of as u64)
            };
            if !quotas.is_empty() {
                self.batch(kind, quotas.iter().map(message)).await?;
            }
        }
        table!(self, kind::DIR_USAGE, scan_dir_usage, |(dir, usage)| {
            let message = Message::default().int(1, dir.0).signed(2, usage.length);
            message.signed(3, usage.space).signed(4, usage.inodes)
        });
        Ok(())
    }

    /// Ends the segments and says where they are.
    async fn finish(mut self) -> Result<(), MetaError> {
        self.sink.put(&END.to_be_bytes()).await?;
        let mut footer = Message::default().int(1, END.into()).int(2, VERSION);
        for (name, (offsets, count)) in &self.index {
            let info = Message::default().packed(1, offsets.iter().copied()).int(2, *count);
            footer = footer.message(3, Message::default().bytes(1, name.as_bytes()).message(2, info));
        }
        let footer = footer.into_bytes();
        self.sink.put(&footer).await?;
        self.sink.put(&(footer.len() as u64).to_be_bytes()).await?;
        self.sink.flush().await
    }
}
