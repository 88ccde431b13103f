//! What records are read from: the database as it is, or as a transaction leaves it.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use redis::{FromRedisValue, Pipeline};
use shoal_format::Ino;
use shoal_meta::MetaError;

use crate::failure::damaged;
use crate::keys::Keys;
use crate::listing::Listings;
use crate::script;
use crate::server::Server;

/// Keys or fields asked for in one request.
const BATCH: usize = 4096;
/// Fields of a hash the server looks at in one step of a scan.
const SCAN_STEP: usize = 2000;

/// One database.
pub(crate) struct Base {
    pub(crate) server: Server,
    pub(crate) keys: Keys,
    pub(crate) listings: Listings,
}

impl Base {
    /// What messages call the database.
    pub(crate) fn at(&self) -> &str {
        self.server.at()
    }

    /// The error for a record that breaks the schema.
    pub(crate) fn damaged(&self, what: impl AsRef<str>) -> MetaError {
        damaged(self.at(), what.as_ref())
    }

    /// A stored number.
    pub(crate) fn number<T: std::str::FromStr>(&self, what: &str, bytes: &[u8]) -> Result<T, MetaError> {
        let number = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| self.damaged(format!("{what} is `{}`", bytes.escape_ascii())))
    }
}

/// How sure a transaction must be, when it commits, of what it reads now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Care {
    /// It may change.
    None,
    /// It may change, but what it is for may not: attributes but for times and link counts, other records but for being there.
    Held,
    /// It may not change.
    Exact,
}

/// A way to see the keys. Answers come in the order of what was asked for.
pub(crate) trait View: Send + Sync {
    fn base(&self) -> &Base;
    /// Asks the server itself.
    fn asking(&self) -> Asking<'_>;
    /// True for a transaction, which may have made what it reads.
    const IN_TXN: bool;

    fn strings(
        &self,
        keys: &[String],
        care: Care,
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, MetaError>> + Send;

    fn fields(
        &self,
        key: &str,
        fields: &[Bytes],
        care: Care,
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, MetaError>> + Send;

    /// What a name stands for, and the attributes of that.
    fn lookup(
        &self,
        dir: Ino,
        name: &[u8],
    ) -> impl Future<Output = Result<Option<(Bytes, Option<Bytes>)>, MetaError>> + Send;

    /// Fields of a hash, each once, in no order, until `each` breaks. With care, it must see all: their number may not change, with
    /// [`Care::Exact`] nor may they.
    fn scan(
        &self,
        key: &str,
        care: Care,
        each: impl FnMut(Bytes, Bytes) -> ControlFlow<()> + Send,
    ) -> impl Future<Output = Result<(), MetaError>> + Send;

    /// Whole lists.
    fn lists(&self, keys: &[String]) -> impl Future<Output = Result<Vec<Vec<Bytes>>, MetaError>> + Send;

    /// Indexes in `range` of a file's chunks that have a list, in order.
    fn chunk_indexes(&self, ino: Ino, range: Range<u32>) -> impl Future<Output = Result<Vec<u32>, MetaError>> + Send;

    /// Members of a sorted set with a score below `below`, lowest first, at most `limit`.
    fn ranked(
        &self,
        key: &str,
        below: i64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Bytes, i64)>, MetaError>> + Send;

    /// Score of a member of a sorted set, which may not change.
    fn score(&self, key: &str, member: Bytes) -> impl Future<Output = Result<Option<Bytes>, MetaError>> + Send;

    /// Members of a set.
    fn members(&self, key: &str) -> impl Future<Output = Result<Vec<Bytes>, MetaError>> + Send;
}

/// The database as it is.
#[derive(Clone)]
pub(crate) struct Direct {
    pub(crate) base: Arc<Base>,
}

/// Asks the server, each time on the connection whose turn it is or always on one.
pub(crate) struct Asking<'a> {
    pub(crate) base: &'a Base,
    pub(crate) slot: usize,
    /// Set with the first answer.
    pub(crate) answered: Option<&'a AtomicBool>,
}

impl Asking<'_> {
    pub(crate) async fn ask<T: FromRedisValue>(&self, request: &Pipeline) -> Result<T, MetaError> {
        let answer = self.base.server.read(self.slot, request).await?;
        if let Some(answered) = self.answered {
            answered.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    pub(crate) async fn strings(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, MetaError> {
        let mut all = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let mut request = Pipeline::new();
            request.cmd("MGET").arg(batch);
            let (values,): (Vec<Option<Bytes>>,) = self.ask(&request).await?;
            all.extend(values);
        }
        Ok(all)
    }

    pub(crate) async fn fields(&self, key: &str, fields: &[Bytes]) -> Result<Vec<Option<Bytes>>, MetaError> {
        let mut all = Vec::with_capacity(fields.len());
        for batch in fields.chunks(BATCH) {
            let mut request = Pipeline::new();
            request.cmd("HMGET").arg(key);
            for field in batch {
                request.arg(&field[..]);
            }
            let (values,): (Vec<Option<Bytes>>,) = self.ask(&request).await?;
            all.extend(values);
        }
        Ok(all)
    }

    pub(crate) async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<(Bytes, Option<Bytes>)>, MetaError> {
        let keys = &self.base.keys;
        let dentries = keys.dentries(dir);
        let mut request = Pipeline::new();
        let mut call = script::call(&script::LOOKUP, &[&dentries]);
        call.arg(name).arg(keys.attr_prefix());
        request.add_command(call);
        let (found,): (Vec<Option<Bytes>>,) = self.ask(&request).await?;
        let mut found = found.into_iter();
        Ok(found.next().flatten().map(|dentry| (dentry, found.next().flatten())))
    }

    pub(crate) async fn scan(
        &self,
        key: &str,
        mut each: impl FnMut(Bytes, Bytes) -> ControlFlow<()> + Send,
    ) -> Result<(), MetaError> {
        let (mut cursor, mut seen) = (Bytes::from_static(b"0"), HashSet::new());
        loop {
            let mut request = Pipeline::new();
            request.cmd("HSCAN").arg(key).arg(&cursor[..]).arg("COUNT").arg(SCAN_STEP);
            let ((next, pairs),): ((Bytes, Vec<(Bytes, Bytes)>),) = self.ask(&request).await?;
            let last = &next[..] == b"0";
            for (field, value) in pairs {
                // A hash that is rearranged meanwhile gives some fields twice.
                let is_new = (last && cursor == "0") || seen.insert(field.clone());
                if is_new && each(field, value).is_break() {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
            cursor = next;
        }
    }

    pub(crate) async fn lists(&self, keys: &[String]) -> Result<Vec<Vec<Bytes>>, MetaError> {
        let mut all = Vec::with_capacity(keys.len());
        // A list has up to some thousand records.
        for batch in keys.chunks(64) {
            let mut request = Pipeline::new();
            for key in batch {
                request.cmd("LRANGE").arg(key).arg(0).arg(-1);
            }
            let lists: Vec<Vec<Bytes>> = self.ask(&request).await?;
            all.extend(lists);
        }
        Ok(all)
    }

    pub(crate) async fn ranked(&self, key: &str, below: i64, limit: usize) -> Result<Vec<(Bytes, i64)>, MetaError> {
        let mut request = Pipeline::new();
        request.cmd("ZRANGEBYSCORE").arg(key).arg("-inf").arg(format!("({below}")).arg("WITHSCORES");
        request.arg("LIMIT").arg(0).arg(i64::try_from(limit).unwrap_or(-1));
        let (ranked,): (Vec<(Bytes, f64)>,) = self.ask(&request).await?;
        Ok(ranked.into_iter().map(|(member, score)| (member, score as i64)).collect())
    }

    pub(crate) async fn score(&self, key: &str, member: &[u8]) -> Result<Option<Bytes>, MetaError> {
        let mut request = Pipeline::new();
        request.cmd("ZSCORE").arg(key).arg(member);
        let (score,): (Option<Bytes>,) = self.ask(&request).await?;
        Ok(score)
    }

    pub(crate) async fn members(&self, key: &str) -> Result<Vec<Bytes>, MetaError> {
        let mut request = Pipeline::new();
        request.cmd("SMEMBERS").arg(key);
        let (members,): (Vec<Bytes>,) = self.ask(&request).await?;
        Ok(members)
    }
}

impl View for Direct {
    const IN_TXN: bool = false;

    fn base(&self) -> &Base {
        &self.base
    }

    fn asking(&self) -> Asking<'_> {
        Asking { base: &self.base, slot: self.base.server.turn(), answered: None }
    }

    async fn strings(&self, keys: &[String], _care: Care) -> Result<Vec<Option<Bytes>>, MetaError> {
        self.asking().strings(keys).await
    }

    async fn fields(&self, key: &str, fields: &[Bytes], _care: Care) -> Result<Vec<Option<Bytes>>, MetaError> {
        self.asking().fields(key, fields).await
    }

    async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<(Bytes, Option<Bytes>)>, MetaError> {
        self.asking().lookup(dir, name).await
    }

    async fn scan(
        &self,
        key: &str,
        _care: Care,
        each: impl FnMut(Bytes, Bytes) -> ControlFlow<()> + Send,
    ) -> Result<(), MetaError> {
        self.asking().scan(key, each).await
    }

    async fn lists(&self, keys: &[String]) -> Result<Vec<Vec<Bytes>>, MetaError> {
        self.asking().lists(keys).await
    }

    async fn chunk_indexes(&self, ino: Ino, range: Range<u32>) -> Result<Vec<u32>, MetaError> {
        self.asking().chunk_indexes(ino, range).await
    }

    async fn ranked(&self, key: &str, below: i64, limit: usize) -> Result<Vec<(Bytes, i64)>, MetaError> {
        self.asking().ranked(key, below, limit).await
    }

    async fn score(&self, key: &str, member: Bytes) -> Result<Option<Bytes>, MetaError> {
        self.asking().score(key, &member).await
    }

    async fn members(&self, key: &str) -> Result<Vec<Bytes>, MetaError> {
        self.asking().members(key).await
    }
}
