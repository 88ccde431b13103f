//! One conformance suite for every [`ObjectStore`].
//!
//! Runs against an empty store or an empty corner of one (`prefix`), leaves nothing behind on success, and panics with
//! the rule that was broken. No time limits of its own.

use std::sync::Arc;

use bytes::Bytes;
use shoal_types::ErrorKind;

use crate::{ObjectBody, ObjectError, ObjectStore};

/// Above a page of every list API, and small enough to be quick over HTTP.
const MANY: usize = 25;
/// One block, as large as the usual volume makes them, plus an odd rest.
const BIG: usize = (4 << 20) + 7;

/// Runs every rule against `store`, under keys that start with `prefix` (empty, or ending in a slash).
pub async fn conformance(store: Arc<dyn ObjectStore>, prefix: &str) {
    let suite = Suite { store, prefix: prefix.to_owned() };
    suite.objects_come_back_as_they_were_put().await;
    suite.ranges_are_exact_and_cut_at_the_end().await;
    suite.missing_objects_are_not_found().await;
    suite.etags_name_the_bytes().await;
    suite.lists_are_ordered_and_paged().await;
    suite.keys_are_taken_literally_or_refused().await;
    suite.many_at_once().await;
    assert_eq!(suite.list("", None, 10).await, Vec::<String>::new(), "the suite left something behind");
}

struct Suite {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Suite {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn put(&self, name: &str, data: impl Into<Bytes>) {
        let put = self.store.put(&self.key(name), data.into()).await;
        put.unwrap_or_else(|error| panic!("put {name}: {error}"));
    }

    async fn get(&self, name: &str, range: Option<std::ops::Range<u64>>) -> Result<Bytes, ObjectError> {
        self.body(name, range, None).await?.collect(2 * BIG).await
    }

    async fn body(
        &self,
        name: &str,
        range: Option<std::ops::Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        self.store.get(&self.key(name), range, if_match).await
    }

    async fn delete(&self, name: &str) {
        let deleted = self.store.delete(&self.key(name)).await;
        deleted.unwrap_or_else(|error| panic!("delete {name}: {error}"));
    }

    /// Names (without the suite's prefix) of a list below `prefix`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let after = after.map(|name| self.key(name));
        let listed = self.store.list(&self.key(prefix), after.as_deref(), limit).await;
        let entries = listed.unwrap_or_else(|error| panic!("list {prefix}: {error}"));
        entries.into_iter().map(|entry| entry.key[self.prefix.len()..].to_owned()).collect()
    }

    async fn objects_come_back_as_they_were_put(&self) {
        for len in [0, 1, 4096, BIG] {
            let data = pattern(len);
            self.put("vol/chunks/0/0/1_0_9", data.clone()).await;
            let body = self.body("vol/chunks/0/0/1_0_9", None, None).await.expect("get what was put");
            assert_eq!((body.len, body.object_len), (len as u64, Some(len as u64)));
            assert_eq!(body.collect(BIG).await.expect("read what was put"), data, "{len} bytes");
            let meta = self.store.head(&self.key("vol/chunks/0/0/1_0_9")).await.expect("head of what was put");
            assert_eq!(meta.len, len as u64);
            assert!(meta.modified.is_some(), "every store knows the time of a put");
        }
        self.delete("vol/chunks/0/0/1_0_9").await;
    }

    async fn ranges_are_exact_and_cut_at_the_end(&self) {
        let data = pattern(BIG);
        self.put("ranges", data.clone()).await;
        let end = BIG as u64;
        for range in [0..1, 0..end, 1..2, 4095..4097, end - 1..end, end - 9..end + 100, 1..u64::MAX] {
            let want = data.slice(range.start as usize..range.end.min(end) as usize);
            let body = self.body("ranges", Some(range.clone()), None).await;
            let body = body.unwrap_or_else(|error| panic!("{range:?}: {error}"));
            assert_eq!((body.len, body.object_len), (want.len() as u64, Some(end)), "{range:?}");
            assert_eq!(body.collect(BIG).await.expect("read a range"), want, "{range:?}");
        }
        #[expect(clippy::reversed_empty_ranges, reason = "a reversed range must be refused, not panic")]
        for range in [0..0, 5..5, 5..4, end..end + 1, end + 1..end + 2] {
            let refused = self.get("ranges", Some(range.clone())).await.expect_err("a range without bytes");
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{range:?}: {refused}");
        }
        self.delete("ranges").await;
    }

    async fn missing_objects_are_not_found(&self) {
        for name in ["nothing", "no/such/dir/nothing"] {
            let got = self.get(name, None).await.expect_err("get of nothing");
            let part = self.get(name, Some(0..1)).await.expect_err("range of nothing");
            let head = self.store.head(&self.key(name)).await.expect_err("head of nothing");
            for error in [got, part, head] {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                assert!(error.to_string().contains(name), "names the key: {error}");
            }
            // Deleting twice is deleting once.
            self.delete(name).await;
        }
        assert_eq!(self.list("no/such/dir/", None, 10).await, Vec::<String>::new());
        self.put("once", "x").await;
        self.delete("once").await;
        assert_eq!(self.get("once", None).await.expect_err("gone").kind(), ErrorKind::NotFound);
    }

    async fn etags_name_the_bytes(&self) {
        self.put("tagged", "first").await;
        let body = self.body("tagged", None, None).await.expect("get");
        let first = body.etag.clone().expect("every store here has ETags");
        assert_eq!(self.store.head(&self.key("tagged")).await.expect("head").etag.as_ref(), Some(&first));
        let whole = self.body("tagged", None, Some(&first)).await.expect("get under its own ETag");
        assert_eq!(whole.collect(9).await.expect("read"), "first");
        let part = self.body("tagged", Some(1..3), Some(&first)).await.expect("range under its own ETag");
        assert_eq!(part.etag.as_ref(), Some(&first));
        assert_eq!(part.collect(9).await.expect("read"), "ir");

        self.put("tagged", "second!").await;
        assert_eq!(self.get("tagged", None).await.expect("replaced"), "second!");
        for range in [None, Some(0..2)] {
            let changed = self.body("tagged", range, Some(&first)).await.expect_err("the old ETag");
            assert_eq!(changed.kind(), ErrorKind::Conflict, "{changed}");
        }
        self.delete("tagged").await;
    }

    async fn lists_are_ordered_and_paged(&self) {
        // Byte order of whole keys is not the order of a walk through directories: `-` and `.` sort before `/`.
        let mut names: Vec<String> = ["d-1", "d.2", "d/1", "d/2/x", "d0", "dd/1", "e"].map(str::to_owned).into();
        names.extend((0..MANY).map(|n| format!("d/many/{n:03}")));
        names.sort();
        for (index, name) in names.iter().enumerate() {
            self.put(name, vec![0u8; index]).await;
        }
        assert_eq!(self.list("", None, 1000).await, names);
        let below: Vec<_> = names.iter().filter(|name| name.starts_with("d/")).cloned().collect();
        assert_eq!(self.list("d/", None, 1000).await, below);
        let starting: Vec<_> = names.iter().filter(|name| name.starts_with('d')).cloned().collect();
        assert_eq!(self.list("d", None, 1000).await, starting);
        assert_eq!(self.list("d/many/00", Some("d/many/004"), 3).await, ["d/many/005", "d/many/006", "d/many/007"]);
        assert_eq!(self.list("", None, 0).await, Vec::<String>::new());
        for limit in [1, 7, names.len(), names.len() + 1] {
            let (mut seen, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = self.list("", after.as_deref(), limit).await;
                assert!(page.len() <= limit);
                let last = page.len() < limit;
                seen.extend(page);
                if last {
                    break;
                }
                after = seen.last().cloned();
            }
            assert_eq!(seen, names, "pages of {limit}");
        }
        // `after` need not exist.
        assert_eq!(self.list("", Some("d/many/0055"), 1).await, ["d/many/006"]);
        let entries = self.store.list(&self.key("e"), None, 10).await.expect("list");
        let head = self.store.head(&self.key("e")).await.expect("head");
        assert_eq!((entries[0].meta.len, &entries[0].meta.etag), (head.len, &head.etag));
        for name in &names {
            self.delete(name).await;
        }
    }

    async fn keys_are_taken_literally_or_refused(&self) {
        let odd = ["a b", "percent%2Fsign", "plus+and&amp", "ünïcode", "q?x=1#f", ".hidden", "...", "back\\slash"];
        for name in odd {
            self.put(name, name.as_bytes().to_vec()).await;
        }
        let mut sorted: Vec<_> = odd.map(str::to_owned).into();
        sorted.sort();
        assert_eq!(self.list("", None, 100).await, sorted);
        for name in odd {
            assert_eq!(self.get(name, None).await.expect("an odd key"), name.as_bytes());
            self.delete(name).await;
        }
        for bad in ["", "a//b", "a/", "../a", "a/./b", "a ", "/a"] {
            let refused = self.store.put(bad, Bytes::from_static(b"x")).await.expect_err("a key no store may take");
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{bad:?}: {refused}");
            assert_eq!(self.store.head(bad).await.expect_err("same").kind(), ErrorKind::Invalid);
        }
    }

    async fn many_at_once(&self) {
        let work = (0..MANY).map(|n| async move {
            let (name, data) = (format!("many/{}/{n}", n % 3), pattern(1000 + n));
            self.put(&name, data.clone()).await;
            assert_eq!(self.get(&name, None).await.expect("read beside others"), data);
            self.delete(&name).await;
        });
        futures::future::join_all(work).await;
    }
}

/// Bytes that differ from position to position.
fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
