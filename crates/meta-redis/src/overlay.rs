//! A transaction: what it read, what must still be so when it commits, and what it writes. Nothing here asks the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::{Bytes, BytesMut};
use shoal_format::Ino;
use shoal_meta::{DirTouch, MetaError, show_name};

use crate::commit::{Commit, number};
use crate::lists::Lists;
use crate::view::Care;

/// An attribute's bytes that say what an inode is: those before its times, and those behind its link count.
const ATTR_HEAD: std::ops::RangeTo<usize> = ..11;
const ATTR_TAIL: std::ops::RangeFrom<usize> = 51..;

/// One value: that of a string, or of a field of a hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    Value(String),
    Field(String, Bytes),
}

/// What must not exist yet, and how to say that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum New {
    Name { parent: Ino, name: Bytes },
    Inode(Ino),
}

impl New {
    pub(crate) fn taken(&self) -> MetaError {
        match self {
            New::Name { parent, name } => MetaError::Exists { parent: parent.0, name: show_name(name) },
            New::Inode(ino) => MetaError::Taken { what: format!("inode {ino}") },
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Write {
    #[default]
    Keep,
    Put(Bytes),
    Remove,
    Add(i64),
    /// Of an attribute: links, and both times of change as the record has them.
    Touch(i64, Bytes),
}

#[derive(Debug)]
struct Entry {
    cell: Cell,
    /// What the database holds, once read.
    base: Option<Option<Bytes>>,
    care: Care,
    new: Option<New>,
    write: Write,
}

/// Everything a transaction knows.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    entries: Vec<Entry>,
    places: HashMap<Cell, usize>,
    /// Hashes that go whole.
    cleared: BTreeSet<String>,
    /// How many fields hashes must still have.
    counts: BTreeMap<String, usize>,
    pub(crate) lists: Lists,
    /// Members of sorted sets with their new scores; without one they go.
    ranks: BTreeMap<(String, Bytes), Option<i64>>,
    /// Scores that members of sorted sets must still have; empty for none.
    scores: BTreeMap<(String, Bytes), Bytes>,
    /// Members of sets that come, or go.
    members: BTreeMap<(String, Bytes), bool>,
    /// How many of their first elements logs lose, whose first one must still be this.
    trims: BTreeMap<String, (Bytes, u64)>,
    /// Every other key goes afterwards.
    drops_rest: bool,
}

/// A number that is no number, in this cell.
#[derive(Debug)]
pub(crate) struct NotANumber(pub(crate) Cell, pub(crate) Bytes);

impl Overlay {
    fn entry(&mut self, cell: Cell) -> &mut Entry {
        let next = self.entries.len();
        let place = *self.places.entry(cell.clone()).or_insert(next);
        if place == next {
            let cleared = matches!(&cell, Cell::Field(key, _) if self.cleared.contains(key));
            let write = if cleared { Write::Remove } else { Write::Keep };
            self.entries.push(Entry { cell, base: None, care: Care::None, new: None, write });
        }
        &mut self.entries[place]
    }

    /// True if the cell must be read before it can be seen.
    pub(crate) fn is_unknown(&mut self, cell: &Cell) -> bool {
        let entry = self.entry(cell.clone());
        entry.base.is_none() && !matches!(entry.write, Write::Put(_) | Write::Remove)
    }

    /// Takes in what was read. What was read before stays: a transaction sees one state.
    pub(crate) fn learn(&mut self, cell: Cell, value: Option<Bytes>) {
        self.entry(cell).base.get_or_insert(value);
    }

    /// What a known cell holds now.
    pub(crate) fn see(&mut self, cell: &Cell, care: Care) -> Result<Option<Bytes>, NotANumber> {
        let entry = self.entry(cell.clone());
        entry.care = entry.care.max(care);
        let base = entry.base.clone().flatten();
        Ok(match &entry.write {
            Write::Keep => base,
            Write::Put(value) => Some(value.clone()),
            Write::Remove => None,
            Write::Add(delta) => Some(number(sum(cell, base, *delta)?)),
            Write::Touch(links, times) => base.map(|attr| touched(&attr, *links, times)),
        })
    }

    pub(crate) fn put(&mut self, cell: Cell, value: impl Into<Bytes>) {
        self.entry(cell).write = Write::Put(value.into());
    }

    pub(crate) fn remove(&mut self, cell: Cell) {
        self.entry(cell).write = Write::Remove;
    }

    /// A value where there must be none. Whether there is may turn out at once, or when the transaction commits.
    pub(crate) fn insert(&mut self, cell: Cell, value: impl Into<Bytes>, new: New) -> Result<(), MetaError> {
        let entry = self.entry(cell);
        match (&entry.write, &entry.base) {
            (Write::Put(_), _) | (Write::Keep | Write::Add(_) | Write::Touch(..), Some(Some(_))) => {
                return Err(new.taken());
            }
            (Write::Keep | Write::Add(_) | Write::Touch(..), None) => entry.new = Some(new),
            // It was seen to be absent, or goes in this transaction.
            (_, Some(None)) => entry.care = entry.care.max(Care::Held),
            (Write::Remove, _) => {}
        }
        entry.write = Write::Put(value.into());
        Ok(())
    }

    /// Adds to a number; one that was never written is zero.
    pub(crate) fn add(&mut self, cell: Cell, delta: i64) -> Result<(), NotANumber> {
        let entry = self.entry(cell.clone());
        entry.write = match &entry.write {
            Write::Keep => Write::Add(delta),
            Write::Add(before) => Write::Add(before + delta),
            Write::Put(value) => Write::Put(number(sum(&cell, Some(value.clone()), delta)?)),
            Write::Remove | Write::Touch(..) => Write::Put(number(delta)),
        };
        Ok(())
    }

    /// Adds to the links of a known attribute and sets its times.
    pub(crate) fn touch(&mut self, cell: Cell, touch: &DirTouch) {
        let mut times = BytesMut::with_capacity(24);
        for time in [touch.mtime, touch.ctime] {
            times.extend_from_slice(&time.secs.to_be_bytes());
            times.extend_from_slice(&time.nanos.to_be_bytes());
        }
        let (links, times) = (i64::from(touch.nlink), times.freeze());
        let entry = self.entry(cell);
        entry.care = entry.care.max(Care::Held);
        entry.write = match &entry.write {
            Write::Put(attr) => Write::Put(touched(attr, links, &times)),
            Write::Touch(before, _) => Write::Touch(before + links, times),
            _ => Write::Touch(links, times),
        };
    }

    /// Removes a hash.
    pub(crate) fn clear(&mut self, key: String) {
        let of_hash = |entry: &&mut Entry| matches!(&entry.cell, Cell::Field(hash, _) if *hash == key);
        self.entries.iter_mut().filter(of_hash).for_each(|entry| entry.write = Write::Remove);
        self.cleared.insert(key);
    }

    /// True if this transaction removes the hash.
    pub(crate) fn is_cleared(&self, key: &str) -> bool {
        self.cleared.contains(key)
    }

    /// The fields of a hash that this transaction writes.
    pub(crate) fn written_fields(&self, key: &str) -> Vec<Bytes> {
        let of_hash = |entry: &&Entry| matches!(&entry.cell, Cell::Field(hash, _) if hash == key);
        let written = self.entries.iter().filter(of_hash).filter(|entry| entry.write != Write::Keep);
        written
            .map(|entry| match &entry.cell {
                Cell::Field(_, field) => field.clone(),
                Cell::Value(_) => Bytes::new(),
            })
            .collect()
    }

    /// How many fields a hash that was read whole must still have.
    pub(crate) fn expect_count(&mut self, key: &str, count: usize) {
        self.counts.entry(key.to_owned()).or_insert(count);
    }

    /// A member of a sorted set with its score; without one it goes.
    pub(crate) fn rank(&mut self, key: String, member: impl Into<Bytes>, score: Option<i64>) {
        self.ranks.insert((key, member.into()), score);
    }

    /// A member of a sorted set must still have this score.
    pub(crate) fn expect_score(&mut self, key: String, member: Bytes, score: Bytes) {
        self.scores.entry((key, member)).or_insert(score);
    }

    /// Members of a sorted set that this transaction writes.
    pub(crate) fn ranks(&self, key: &str) -> BTreeMap<Bytes, Option<i64>> {
        let of_set = self.ranks.iter().filter(|((set, _), _)| set == key);
        of_set.map(|((_, member), score)| (member.clone(), *score)).collect()
    }

    /// A list loses its first `count` elements, the first of which is `first`.
    pub(crate) fn trim(&mut self, key: String, first: Bytes, count: u64) {
        self.trims.insert(key, (first, count));
    }

    /// Every other key goes after the commit.
    pub(crate) fn drop_rest(&mut self) {
        self.drops_rest = true;
    }

    /// True after [`Overlay::drop_rest`].
    pub(crate) fn drops_rest(&self) -> bool {
        self.drops_rest
    }

    /// A member of a set comes, or goes.
    pub(crate) fn member(&mut self, key: String, member: impl Into<Bytes>, comes: bool) {
        self.members.insert((key, member.into()), comes);
    }

    /// Members of a set that this transaction writes.
    pub(crate) fn members(&self, key: &str) -> BTreeMap<Bytes, bool> {
        let of_set = self.members.iter().filter(|((set, _), _)| set == key);
        of_set.map(|((_, member), comes)| (member.clone(), *comes)).collect()
    }

    /// The transaction for the server, and what each of its first checks says of something that must be new.
    pub(crate) fn encode(&self) -> (Commit, Vec<Option<New>>) {
        let (mut commit, mut meaning) = (Commit::default(), Vec::new());
        for entry in &self.entries {
            entry.encode_check(&mut commit);
            meaning.resize(commit.checks(), entry.new.clone());
        }
        self.counts.iter().for_each(|(key, count)| commit.check("fields", key, [number(count)]));
        for ((key, member), score) in &self.scores {
            commit.check("score", key, [member.clone(), score.clone()]);
        }
        for (key, (first, _)) in &self.trims {
            commit.check("begins", key, [number(1), first.clone()]);
        }
        self.lists.encode(&mut commit);
        self.cleared.iter().for_each(|key| commit.write("DEL", key, []));
        self.encode_cells(&mut commit);
        for (key, (_, count)) in &self.trims {
            commit.write("LTRIM", key, [number(count), number(-1)]);
        }
        self.lists.encode_writes(&mut commit);
        for ((key, member), score) in &self.ranks {
            match score {
                Some(score) => commit.write("ZADD", key, [number(score), member.clone()]),
                None => commit.write("ZREM", key, [member.clone()]),
            }
        }
        for ((key, member), comes) in &self.members {
            commit.write(if *comes { "SADD" } else { "SREM" }, key, [member.clone()]);
        }
        (commit, meaning)
    }

    fn encode_cells(&self, commit: &mut Commit) {
        let (mut puts, mut removals) = (BTreeMap::<&str, Vec<Bytes>>::new(), BTreeMap::<&str, Vec<Bytes>>::new());
        for entry in &self.entries {
            match (&entry.cell, &entry.write) {
                (_, Write::Keep) => {}
                (Cell::Value(key), Write::Put(value)) => commit.write("SET", key, [value.clone()]),
                (Cell::Value(key), Write::Remove) => commit.write("DEL", key, []),
                (Cell::Value(key), Write::Add(delta)) => commit.write("INCRBY", key, [number(delta)]),
                (Cell::Value(key) | Cell::Field(key, _), Write::Touch(links, times)) => {
                    // The script reads its arguments by itself.
                    commit.write("touch", key, [number(links), times.clone()]);
                }
                (Cell::Field(key, field), Write::Put(value)) => {
                    puts.entry(key).or_default().extend([field.clone(), value.clone()]);
                }
                (Cell::Field(key, field), Write::Remove) => removals.entry(key).or_default().push(field.clone()),
                (Cell::Field(key, field), Write::Add(delta)) => {
                    commit.write("HINCRBY", key, [field.clone(), number(delta)]);
                }
            }
        }
        removals.iter().for_each(|(key, fields)| commit.write_many("HDEL", key, fields, 1));
        puts.iter().for_each(|(key, pairs)| commit.write_many("HSET", key, pairs, 2));
    }
}

impl Entry {
    fn encode_check(&self, commit: &mut Commit) {
        let care = if self.new.is_some() { Care::Held } else { self.care };
        let base = match &self.base {
            _ if care == Care::None => return,
            Some(base) => base.as_ref(),
            None if self.new.is_some() => None,
            None => return,
        };
        match (&self.cell, base, care) {
            (Cell::Value(key), None, _) => commit.check("absent", key, []),
            (Cell::Value(key), Some(attr), Care::Held) if attr.len() >= ATTR_TAIL.start => {
                commit.check("attr", key, [attr.slice(ATTR_HEAD), attr.slice(ATTR_TAIL)]);
            }
            (Cell::Value(key), Some(value), _) => commit.check("value", key, [value.clone()]),
            (Cell::Field(key, field), None, _) => commit.check("none", key, [field.clone()]),
            (Cell::Field(key, field), Some(_), Care::Held) => commit.check("some", key, [field.clone()]),
            (Cell::Field(key, field), Some(value), _) => commit.check("field", key, [field.clone(), value.clone()]),
        }
    }
}

/// A number with something added.
fn sum(cell: &Cell, base: Option<Bytes>, delta: i64) -> Result<i64, NotANumber> {
    let Some(base) = base else { return Ok(delta) };
    let known: Option<i64> = std::str::from_utf8(&base).ok().and_then(|text| text.parse().ok());
    known.map(|known| known.saturating_add(delta)).ok_or_else(|| NotANumber(cell.clone(), base))
}

/// An attribute with its links and times changed, as the script changes it.
fn touched(attr: &Bytes, links: i64, times: &Bytes) -> Bytes {
    let Some(count) = attr.get(47..51).and_then(|count| count.first_chunk()) else { return attr.clone() };
    let count = (i64::from(u32::from_be_bytes(*count)) + links).clamp(0, i64::from(u32::MAX)) as u32;
    [&attr[..23], times, &count.to_be_bytes(), &attr[ATTR_TAIL]].concat().into()
}
