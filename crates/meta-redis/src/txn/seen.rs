//! The database as a transaction sees it: what it read, with what it wrote.

use std::collections::{BTreeMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use redis::{FromRedisValue, Pipeline};
use shoal_format::Ino;
use shoal_meta::MetaError;

use crate::overlay::{Cell, NotANumber, Overlay};
use crate::view::{Asking, Base, Care, View};

/// Keys the server looks at in one step of a removal of everything.
const DROP_STEP: usize = 5000;

/// A transaction's view. All of its requests go over one connection, unless that breaks.
pub(crate) struct Overlaid {
    base: Arc<Base>,
    slot: usize,
    answered: AtomicBool,
    state: Mutex<Overlay>,
}

impl Overlaid {
    /// A transaction that has neither read nor written anything.
    pub(crate) fn new(base: Arc<Base>) -> Overlaid {
        let slot = base.server.turn();
        Overlaid { base, slot, answered: AtomicBool::new(false), state: Mutex::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Overlay> {
        self.state.lock()
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Whether the server answered this transaction.
    pub(crate) fn was_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, request: &Pipeline) -> Result<T, MetaError> {
        self.asking().ask(request).await
    }

    /// Removes every key of the volume.
    pub(crate) async fn drop_keys(&self) -> Result<(), MetaError> {
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let mut request = Pipeline::new();
            request.cmd("SCAN").arg(&cursor[..]).arg("MATCH").arg(self.base.keys.pattern()).arg("COUNT").arg(DROP_STEP);
            let ((next, keys),): ((Bytes, Vec<Bytes>),) = self.ask(&request).await?;
            let mut removal = Pipeline::new();
            let ours: Vec<&[u8]> = keys.iter().map(|key| &key[..]).filter(|key| self.base.keys.is_ours(key)).collect();
            if !ours.is_empty() {
                // What is gone already may go again, so this may be asked as a read is.
                removal.cmd("UNLINK").arg(ours).ignore();
                self.ask::<()>(&removal).await?;
            }
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// The error for a record that is no number.
    pub(crate) fn no_number(&self, NotANumber(cell, value): NotANumber) -> MetaError {
        let what = match &cell {
            Cell::Value(key) => key.clone(),
            Cell::Field(key, field) => format!("{} in {key}", field.escape_ascii()),
        };
        self.base.damaged(format!("{what} is `{}`", value.escape_ascii()))
    }

    fn see(&self, cells: &[Cell], care: Care) -> Result<Vec<Option<Bytes>>, MetaError> {
        let mut state = self.state();
        cells.iter().map(|cell| state.see(cell, care).map_err(|error| self.no_number(error))).collect()
    }

    /// Reads the lists that are not known yet. They may still change.
    pub(crate) async fn know_lists(&self, keys: &[String]) -> Result<(), MetaError> {
        let unknown = self.state().lists.unknown(keys);
        if !unknown.is_empty() {
            let lists = self.asking().lists(&unknown).await?;
            self.state().lists.learn(unknown, lists);
        }
        Ok(())
    }

    /// Those of `names` whose cell must be read.
    fn unknown<T: Clone>(&self, names: &[T], cell: impl Fn(&T) -> Cell) -> Vec<T> {
        let mut state = self.state();
        names.iter().filter(|name| state.is_unknown(&cell(name))).cloned().collect()
    }

    fn learn<T>(&self, names: Vec<T>, values: Vec<Option<Bytes>>, cell: impl Fn(T) -> Cell) {
        let mut state = self.state();
        names.into_iter().zip(values).for_each(|(name, value)| state.learn(cell(name), value));
    }
}

impl View for Overlaid {
    const IN_TXN: bool = true;

    fn base(&self) -> &Base {
        &self.base
    }

    fn asking(&self) -> Asking<'_> {
        Asking { base: &self.base, slot: self.slot, answered: Some(&self.answered) }
    }

    async fn strings(&self, keys: &[String], care: Care) -> Result<Vec<Option<Bytes>>, MetaError> {
        let unknown = self.unknown(keys, |key| Cell::Value(key.clone()));
        if !unknown.is_empty() {
            let values = self.asking().strings(&unknown).await?;
            self.learn(unknown, values, Cell::Value);
        }
        self.see(&keys.iter().cloned().map(Cell::Value).collect::<Vec<_>>(), care)
    }

    async fn fields(&self, key: &str, fields: &[Bytes], care: Care) -> Result<Vec<Option<Bytes>>, MetaError> {
        let cell = |field: Bytes| Cell::Field(key.to_owned(), field);
        let unknown = self.unknown(fields, |field| cell(field.clone()));
        if !unknown.is_empty() {
            let values = self.asking().fields(key, &unknown).await?;
            self.learn(unknown, values, cell);
        }
        self.see(&fields.iter().cloned().map(cell).collect::<Vec<_>>(), care)
    }

    async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<(Bytes, Option<Bytes>)>, MetaError> {
        let (key, name) = (self.base.keys.dentries(dir), Bytes::copy_from_slice(name));
        let cell = Cell::Field(key.clone(), name.clone());
        if self.state().is_unknown(&cell) {
            let found = self.asking().lookup(dir, &name).await?;
            let mut state = self.state();
            let (dentry, attr) = found.map_or((None, None), |(dentry, attr)| (Some(dentry), attr));
            if let Some(ino) = dentry.as_ref().and_then(named) {
                state.learn(Cell::Value(self.base.keys.attr(ino)), attr);
            }
            state.learn(cell, dentry);
        }
        let Some(dentry) = self.fields(&key, &[name], Care::Exact).await?.pop().flatten() else { return Ok(None) };
        let attr = match named(&dentry) {
            Some(ino) => self.strings(&[self.base.keys.attr(ino)], Care::Held).await?.pop().flatten(),
            None => None,
        };
        Ok(Some((dentry, attr)))
    }

    async fn scan(
        &self,
        key: &str,
        care: Care,
        mut each: impl FnMut(Bytes, Bytes) -> ControlFlow<()> + Send,
    ) -> Result<(), MetaError> {
        let mut written: HashSet<Bytes> = self.state().written_fields(key).into_iter().collect();
        let (mut count, mut bad, mut over) = (0, None, false);
        if !self.state().is_cleared(key) {
            self.asking()
                .scan(key, |field, value| {
                    count += 1;
                    let seen = match written.remove(&field) || care == Care::Exact {
                        false => Ok(Some(value)),
                        true => {
                            let cell = Cell::Field(key.to_owned(), field.clone());
                            let mut state = self.state();
                            state.learn(cell.clone(), Some(value));
                            state.see(&cell, care)
                        }
                    };
                    let next = match seen {
                        Ok(Some(value)) => each(field, value),
                        Ok(None) => ControlFlow::Continue(()),
                        Err(error) => {
                            bad = Some(error);
                            ControlFlow::Break(())
                        }
                    };
                    over |= next.is_break();
                    next
                })
                .await?;
        }
        if let Some(error) = bad {
            return Err(self.no_number(error));
        }
        if care != Care::None && !over {
            self.state().expect_count(key, count);
        }
        for field in written {
            if over {
                break;
            }
            let cell = Cell::Field(key.to_owned(), field.clone());
            if let Some(value) = self.see(&[cell], Care::None)?.pop().flatten() {
                over = each(field, value).is_break();
            }
        }
        Ok(())
    }

    async fn lists(&self, keys: &[String]) -> Result<Vec<Vec<Bytes>>, MetaError> {
        self.know_lists(keys).await?;
        let mut state = self.state();
        Ok(keys.iter().map(|key| state.lists.see(key)).collect())
    }

    async fn chunk_indexes(&self, ino: Ino, range: Range<u32>) -> Result<Vec<u32>, MetaError> {
        let stored = self.asking().chunk_indexes(ino, range.clone()).await?;
        let mut exist: BTreeMap<u32, bool> = stored.into_iter().map(|index| (index, true)).collect();
        for (key, exists) in self.state().lists.changed() {
            if let Some(index) = self.base.keys.chunk_index(ino, key.as_bytes()).filter(|index| range.contains(index)) {
                exist.insert(index, exists);
            }
        }
        Ok(exist.into_iter().filter_map(|(index, exists)| exists.then_some(index)).collect())
    }

    async fn ranked(&self, key: &str, below: i64, limit: usize) -> Result<Vec<(Bytes, i64)>, MetaError> {
        let written = self.state().ranks(key);
        // Some of those found may be gone by this transaction's hand.
        let mut ranked = self.asking().ranked(key, below, limit.saturating_add(written.len())).await?;
        ranked.retain(|(member, _)| !written.contains_key(member));
        let new = written.into_iter().filter_map(|(member, score)| Some((member, score?)));
        ranked.extend(new.filter(|(_, score)| *score < below));
        ranked.sort_by_key(|(_, score)| *score);
        ranked.truncate(limit);
        Ok(ranked)
    }

    async fn score(&self, key: &str, member: Bytes) -> Result<Option<Bytes>, MetaError> {
        if let Some(written) = self.state().ranks(key).get(&member) {
            return Ok(written.map(crate::commit::number));
        }
        let score = self.asking().score(key, &member).await?;
        self.state().expect_score(key.to_owned(), member, score.clone().unwrap_or_default());
        Ok(score)
    }

    async fn members(&self, key: &str) -> Result<Vec<Bytes>, MetaError> {
        let mut members = self.asking().members(key).await?;
        let written = self.state().members(key);
        members.retain(|member| !written.contains_key(member));
        members.extend(written.into_iter().filter_map(|(member, comes)| comes.then_some(member)));
        Ok(members)
    }
}

/// The inode a dentry names, if it is one.
fn named(dentry: &Bytes) -> Option<Ino> {
    shoal_format::Dentry::decode(dentry).ok().map(|dentry| dentry.ino)
}
