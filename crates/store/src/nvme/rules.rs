//! Rules for groups of blocks: which are pinned, and how old they may get.
//!
//! A group is an origin and the start of an object's key; the longest start that fits decides. Rules are few and change seldom: they are kept
//! in a file of every cache directory, of which the newest counts.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use shoal_runtime::clock;
use shoal_types::{BlockKey, OriginId};

/// Name of the rules' file in a cache directory.
const RULES_FILE: &str = "shoal-rules.json";
const FORMAT: u32 = 1;

/// Most rules of a node: each read of a block looks through them.
pub(crate) const RULES_MAX: usize = 256;

/// What holds for the blocks of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// Where the blocks come from.
    pub origin: OriginId,
    /// Start of the objects' keys; empty is every object of the origin.
    pub prefix: String,
    /// Never evicted, as long as pinned blocks take no more than half of a cache directory.
    pub pin: bool,
    /// Blocks stored longer ago than this are misses; whole seconds count.
    pub ttl: Option<Duration>,
}

/// The rules at one moment.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Counts changes.
    pub(crate) version: u64,
    /// Longest prefix first.
    rules: Vec<GroupRule>,
    pins: bool,
    ttls: bool,
}

impl Rules {
    fn new(version: u64, mut rules: Vec<GroupRule>) -> Rules {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        let (pins, ttls) = (rules.iter().any(|rule| rule.pin), rules.iter().any(|rule| rule.ttl.is_some()));
        Rules { version, rules, pins, ttls }
    }

    /// Whether any block is pinned.
    pub(crate) fn pins(&self) -> bool {
        self.pins
    }

    /// Whether any block expires.
    pub(crate) fn expires(&self) -> bool {
        self.ttls
    }

    /// All of them, the longest prefix first.
    pub(crate) fn list(&self) -> &[GroupRule] {
        &self.rules
    }

    /// The rule for a block.
    pub(crate) fn of(&self, key: &BlockKey) -> Option<&GroupRule> {
        self.rules.iter().find(|rule| rule.origin == key.origin() && key.object().starts_with(&rule.prefix))
    }

    /// The time (Unix, seconds) that the block must have been stored at or after; 0 if it never expires.
    pub(crate) fn stored_since(&self, key: &BlockKey) -> u32 {
        let ttl = if self.ttls { self.of(key).and_then(|rule| rule.ttl) } else { None };
        ttl.map_or(0, |ttl| unix_seconds().saturating_sub(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)))
    }
}

/// Now, in the unit that records tell their age in.
pub(crate) fn unix_seconds() -> u32 {
    u32::try_from(clock::unix_now().as_secs()).unwrap_or(u32::MAX)
}

/// The rules in force; shared by all who ask.
#[derive(Debug, Default)]
pub(crate) struct RuleBook {
    current: RwLock<Arc<Rules>>,
    /// Whether there are any: the usual answer costs no lock.
    some: AtomicBool,
    /// Held by who changes them.
    changing: Mutex<()>,
}

impl RuleBook {
    /// The newest rules that are kept in `dirs`. What cannot be read does not count, with a warning.
    pub(crate) fn open<'a>(dirs: impl Iterator<Item = &'a Path>) -> RuleBook {
        let newest = dirs.filter_map(read).max_by_key(|rules| rules.version).unwrap_or_default();
        let book = RuleBook::default();
        book.put(newest);
        book
    }

    /// The rules now.
    pub(crate) fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.current.read())
    }

    /// See [`Rules::stored_since`].
    pub(crate) fn stored_since(&self, key: &BlockKey) -> u32 {
        if self.some.load(Ordering::Acquire) { self.current.read().stored_since(key) } else { 0 }
    }

    /// Whether the block is pinned.
    pub(crate) fn pins(&self, key: &BlockKey) -> bool {
        self.some.load(Ordering::Acquire) && self.current.read().of(key).is_some_and(|rule| rule.pin)
    }

    /// Puts `rules` in force and keeps them in `dirs`; the first error, after all were tried.
    pub(crate) fn set<'a>(
        &self,
        rules: Vec<GroupRule>,
        dirs: impl Iterator<Item = &'a Path>,
    ) -> Result<(), (io::Error, &'a Path)> {
        let _alone = self.changing.lock();
        let rules = Rules::new(self.current().version + 1, rules);
        let json = to_json(&rules);
        let results: Vec<_> = dirs.map(|dir| (write(dir, &json), dir)).collect();
        self.put(rules);
        results.into_iter().try_for_each(|(result, dir)| result.map_err(|error| (error, dir)))
    }

    fn put(&self, rules: Rules) {
        let some = !rules.rules.is_empty();
        *self.current.write() = Arc::new(rules);
        self.some.store(some, Ordering::Release);
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    version: u64,
    rules: Vec<StoredRule>,
}

#[derive(Serialize, Deserialize)]
struct StoredRule {
    origin: String,
    prefix: String,
    pin: bool,
    ttl_seconds: Option<u64>,
}

fn to_json(rules: &Rules) -> String {
    let stored = |rule: &GroupRule| StoredRule {
        origin: rule.origin.to_string(),
        prefix: rule.prefix.clone(),
        pin: rule.pin,
        ttl_seconds: rule.ttl.map(|ttl| ttl.as_secs()),
    };
    let stored = Stored { format: FORMAT, version: rules.version, rules: rules.rules.iter().map(stored).collect() };
    serde_json::to_string_pretty(&stored).expect("a struct of numbers and text has a JSON form")
}

fn parse(json: &[u8]) -> Option<Rules> {
    let Stored { version, rules, .. } =
        serde_json::from_slice(json).ok().filter(|stored: &Stored| stored.format == FORMAT)?;
    let rule = |StoredRule { origin, prefix, pin, ttl_seconds }| {
        Some(GroupRule { origin: origin.parse().ok()?, prefix, pin, ttl: ttl_seconds.map(Duration::from_secs) })
    };
    let rules = rules.into_iter().map(rule).collect::<Option<Vec<_>>>()?;
    (rules.len() <= RULES_MAX).then(|| Rules::new(version, rules))
}

fn read(dir: &Path) -> Option<Rules> {
    let why = match std::fs::read(dir.join(RULES_FILE)) {
        Ok(json) => match parse(&json) {
            Some(rules) => return Some(rules),
            None => "it is damaged or of another version".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
    };
    tracing::warn!(dir = %dir.display(), why, "{RULES_FILE} cannot be used: its pins and ages do not hold until rules are set again");
    None
}

/// After a crash there are the old rules or the new ones.
fn write(dir: &Path, json: &str) -> io::Result<()> {
    let temporary = dir.join(format!("{RULES_FILE}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(json.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, dir.join(RULES_FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: OriginId = OriginId([7; 16]);

    fn rule(prefix: &str, pin: bool, ttl: Option<u64>) -> GroupRule {
        GroupRule { origin: ORIGIN, prefix: prefix.into(), pin, ttl: ttl.map(Duration::from_secs) }
    }

    #[test]
    fn the_longest_prefix_of_the_origin_decides() {
        let rules = Rules::new(1, vec![rule("", false, Some(60)), rule("a/b", true, None), rule("a/", false, None)]);
        let of = |object: &str| rules.of(&BlockKey::whole(ORIGIN, object)).map(|rule| rule.prefix.clone());
        assert_eq!((of("x"), of("a/x"), of("a/bc")), (Some("".into()), Some("a/".into()), Some("a/b".into())));
        assert!(rules.of(&BlockKey::whole(OriginId([8; 16]), "a/b")).is_none());
        assert_eq!(rules.stored_since(&BlockKey::whole(ORIGIN, "a/b")), 0);
        let since = rules.stored_since(&BlockKey::whole(ORIGIN, "x"));
        assert!(unix_seconds() - since >= 60 && unix_seconds() - since < 100);
    }

    #[test]
    fn the_rules_file_is_pinned() {
        let rules = Rules::new(3, vec![rule("a/", true, Some(60))]);
        let json = "{\n  \"format\": 1,\n  \"version\": 3,\n  \"rules\": [\n    {\n      \"origin\": \
                    \"07070707070707070707070707070707\",\n      \"prefix\": \"a/\",\n      \"pin\": true,\n      \
                    \"ttl_seconds\": 60\n    }\n  ]\n}";
        assert_eq!(to_json(&rules), json);
        let read = parse(json.as_bytes()).unwrap();
        assert_eq!((read.version, read.list()), (3, rules.list()));
        assert!(parse(json.replace("\"format\": 1", "\"format\": 2").as_bytes()).is_none() && parse(b"{}").is_none());
    }

    #[test]
    fn the_newest_rules_of_all_directories_count_and_damage_is_no_rule() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let paths = || dirs.iter().map(|dir| dir.path());
        let book = RuleBook::open(paths());
        book.set(vec![rule("old", true, None)], paths()).unwrap();
        book.set(vec![rule("new", true, None)], paths().skip(1)).unwrap();
        std::fs::write(dirs[2].path().join(RULES_FILE), b"{").unwrap();
        let book = RuleBook::open(paths());
        assert_eq!((book.current().version, book.current().list()), (2, &[rule("new", true, None)][..]));
    }
}
