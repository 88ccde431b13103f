//! Chunk lists as a transaction sees and changes them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::commit::{Commit, number};

/// Lists by key.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    lists: BTreeMap<String, List>,
}

#[derive(Debug, Default)]
struct List {
    /// What the database holds, once read.
    base: Option<Vec<Bytes>>,
    /// How many of its first elements must still be the same.
    same: usize,
    /// Whether there must be no more of them.
    whole: bool,
    /// Everything it held goes.
    gone: bool,
    /// How many of its first elements go.
    cut: usize,
    /// What takes their place.
    front: Vec<Bytes>,
    /// What follows.
    back: Vec<Bytes>,
}

impl List {
    fn needs_base(&self) -> bool {
        self.base.is_none() && !self.gone
    }

    fn now(&self) -> Vec<Bytes> {
        let base = if self.gone { &[][..] } else { self.base.as_deref().unwrap_or_default() };
        self.front.iter().chain(base.iter().skip(self.cut)).chain(&self.back).cloned().collect()
    }

    fn expect_whole(&mut self) {
        if let Some(base) = &self.base {
            (self.same, self.whole) = (base.len(), true);
        }
    }
}

impl Lists {
    /// Those of `keys` that must be read before they can be seen.
    pub(crate) fn unknown(&self, keys: &[String]) -> Vec<String> {
        let unknown = |key: &&String| self.lists.get(*key).is_none_or(List::needs_base);
        keys.iter().filter(unknown).cloned().collect()
    }

    /// Takes in what was read.
    pub(crate) fn learn(&mut self, keys: Vec<String>, lists: Vec<Vec<Bytes>>) {
        for (key, list) in keys.into_iter().zip(lists) {
            self.lists.entry(key).or_default().base.get_or_insert(list);
        }
    }

    /// A known list, which may not change any more.
    pub(crate) fn see(&mut self, key: &str) -> Vec<Bytes> {
        let list = self.lists.entry(key.to_owned()).or_default();
        list.expect_whole();
        list.now()
    }

    /// Lists that this transaction changes: key, and whether there will be one.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&String, bool)> {
        let changed = |list: &List| list.gone || !list.back.is_empty() || !list.front.is_empty() || list.cut > 0;
        self.lists.iter().filter(move |(_, list)| changed(list)).map(|(key, list)| (key, !list.now().is_empty()))
    }

    pub(crate) fn append(&mut self, key: String, records: impl IntoIterator<Item = Bytes>) {
        self.lists.entry(key).or_default().back.extend(records);
    }

    /// Removes a known list; gives what it held.
    pub(crate) fn take(&mut self, key: &str) -> Vec<Bytes> {
        let held = self.see(key);
        let list = self.lists.entry(key.to_owned()).or_default();
        (list.gone, list.front, list.back) = (true, Vec::new(), Vec::new());
        held
    }

    /// Puts `new` in the place of the first elements of a known list, if they are `old`. What follows them may change.
    pub(crate) fn replace(&mut self, key: &str, old: &[Bytes], new: &[Bytes]) -> bool {
        let list = self.lists.entry(key.to_owned()).or_default();
        let now = list.now();
        let Some(rest) = now.strip_prefix(old) else { return false };
        let in_base = list.base.as_ref().is_some_and(|base| old.len() <= base.len());
        if in_base && !list.gone && list.cut == 0 && list.front.is_empty() {
            (list.cut, list.front, list.same) = (old.len(), new.to_vec(), list.same.max(old.len()));
        } else {
            list.expect_whole();
            (list.gone, list.front, list.back) = (true, Vec::new(), [new, rest].concat());
        }
        true
    }

    /// What must be so, and what is written.
    pub(crate) fn encode(&self, commit: &mut Commit) {
        for (key, list) in &self.lists {
            if list.same > 0 {
                let base = list.base.as_deref().unwrap_or_default();
                commit.check("begins", key, [number(list.same), base[..list.same].concat().into()]);
            }
            if list.whole {
                commit.check("elements", key, [number(list.same)]);
            }
        }
    }

    /// The writes, which follow all checks.
    pub(crate) fn encode_writes(&self, commit: &mut Commit) {
        for (key, list) in &self.lists {
            match list.gone {
                true if list.base.as_ref().is_some_and(Vec::is_empty) => {}
                true => commit.write("DEL", key, []),
                false if list.cut > 0 => commit.write("LTRIM", key, [number(list.cut), number(-1)]),
                false => {}
            }
            let front: Vec<Bytes> = list.front.iter().rev().cloned().collect();
            commit.write_many("LPUSH", key, &front, 1);
            commit.write_many("RPUSH", key, &list.back, 1);
        }
    }
}
