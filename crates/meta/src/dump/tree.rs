//! The tree of names, depth first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shoal_format::{Attr, CHUNK_BYTES, FileType, Ino};
use tokio::task::JoinHandle;

use super::page::{CHUNKS_HELD, Item, Page, Pages};
use super::{Sink, text};
use crate::error::MetaError;
use crate::meta::Meta;
use crate::record::ChunkSlices;

/// Deepest path; a longer one is a cycle in damaged metadata.
const DEPTH_MAX: usize = 4096;
/// Blanks by which the names in a directory are indented more than its own.
const STEP: usize = 4;

type Reading = JoinHandle<Result<Page, MetaError>>;

/// A walk that writes what it sees.
pub(super) struct Walk<'a> {
    pages: Pages,
    /// Directories of one level whose names are read ahead.
    ahead: usize,
    out: &'a mut Sink,
    names: &'a AtomicU64,
}

/// A directory that is being written.
struct Frame {
    dir: Ino,
    items: std::vec::IntoIter<Item>,
    more: Option<Reading>,
    /// Directories among `items` that are not read yet, and those that are, in order.
    unread: VecDeque<Ino>,
    read: VecDeque<Reading>,
    empty: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(meta: &Meta, threads: usize, out: &'a mut Sink, names: &'a AtomicU64) -> Walk<'a> {
        Walk { pages: Pages::new(meta, threads), ahead: threads.max(1), out, names }
    }

    pub(super) fn sink(&mut self) -> &mut Sink {
        self.out
    }

    /// Writes directory `root` and everything below it as the member `name` of the outermost object.
    pub(super) async fn tree(&mut self, name: &'static [u8], root: Ino, attr: Attr) -> Result<(), MetaError> {
        let root = self.pages.root(name, root, attr).await?;
        let mut stack = vec![self.open(&root, 0, None).await?];
        while let Some(frame) = stack.last_mut() {
            let Some(item) = frame.items.next() else {
                let Some(more) = frame.more.take() else {
                    stack.pop();
                    self.close(stack.len()).await?;
                    continue;
                };
                let page = page_of(more).await?;
                self.fill(frame, page);
                continue;
            };
            let begin: &[u8] = if std::mem::take(&mut frame.empty) { b"\n" } else { b",\n" };
            self.out.put(begin).await?;
            let level = stack.len();
            if item.attr.is_dir() {
                if level > DEPTH_MAX {
                    let what = format!("directory {} lies in a cycle of directories", item.ino);
                    return Err(MetaError::Corrupt { what });
                }
                let reading = self.next_dir(stack.last_mut().expect("the loop has one"));
                stack.push(self.open(&item, level, reading).await?);
            } else {
                self.file(&item, level).await?;
            }
        }
        Ok(())
    }

    /// Writes a directory up to the names in it. `reading` is its first page on its way.
    async fn open(&mut self, item: &Item, level: usize, reading: Option<Reading>) -> Result<Frame, MetaError> {
        self.head(item, level).await?;
        self.out.put(format!(",\n{}\"entries\": {{", blanks(level, 2)).as_bytes()).await?;
        let reading = reading.unwrap_or_else(|| self.pages.start(item.ino, Bytes::new()));
        let mut frame = Frame {
            dir: item.ino,
            items: Vec::new().into_iter(),
            more: None,
            unread: VecDeque::new(),
            read: VecDeque::new(),
            empty: true,
        };
        let page = page_of(reading).await?;
        self.fill(&mut frame, page);
        Ok(frame)
    }

    async fn close(&mut self, level: usize) -> Result<(), MetaError> {
        self.out.put(format!("\n{}}}\n{}}}", blanks(level, 2), blanks(level, 0)).as_bytes()).await
    }

    /// Goes on with a page, and begins to read what follows.
    fn fill(&self, frame: &mut Frame, page: Page) {
        frame.unread = page.items.iter().filter(|item| item.attr.is_dir()).map(|item| item.ino).collect();
        frame.items = page.items.into_iter();
        frame.more = page.after.map(|after| self.pages.start(frame.dir, after));
        self.read_ahead(frame);
    }

    fn read_ahead(&self, frame: &mut Frame) {
        while frame.read.len() < self.ahead
            && let Some(dir) = frame.unread.pop_front()
        {
            frame.read.push_back(self.pages.start(dir, Bytes::new()));
        }
    }

    fn next_dir(&self, frame: &mut Frame) -> Option<Reading> {
        let next = frame.read.pop_front();
        self.read_ahead(frame);
        next
    }

    /// Writes an entry up to what differs between files and directories.
    async fn head(&mut self, item: &Item, level: usize) -> Result<(), MetaError> {
        self.names.fetch_add(1, Ordering::Relaxed);
        let (outer, inner) = (blanks(level, 0), blanks(level, 2));
        let mut out = format!("{outer}\"").into_bytes();
        text::escape(&item.name, &mut out);
        out.extend_from_slice(format!("\": {{\n{inner}\"attr\": {}", text::attr(item.ino, &item.attr)).as_bytes());
        for (name, value) in &item.members {
            out.extend_from_slice(format!(",\n{inner}\"{name}\": {value}").as_bytes());
        }
        self.out.put(&out).await
    }

    async fn file(&mut self, item: &Item, level: usize) -> Result<(), MetaError> {
        self.head(item, level).await?;
        if item.attr.kind == FileType::Regular {
            self.chunks(item, level).await?;
        }
        self.out.put(format!("\n{}}}", blanks(level, 0)).as_bytes()).await
    }

    /// Writes the lists of those chunks that begin below the file's length: on one line if there is only one.
    async fn chunks(&mut self, item: &Item, level: usize) -> Result<(), MetaError> {
        let inner = blanks(level, 2);
        let count = item.attr.length.div_ceil(CHUNK_BYTES);
        let (mut first, mut many) = (None, false);
        let mut begin = 0;
        while begin < count {
            let end = (begin + CHUNKS_HELD).min(count);
            let lists =
                if count <= CHUNKS_HELD { item.chunks.clone() } else { self.window(item.ino, begin, end).await? };
            for list in lists.iter().filter(|list| u64::from(list.index) < count && !list.slices.is_empty()) {
                let list = text::chunk(list.index, &list.slices);
                match first.take() {
                    None if !many => first = Some(list),
                    earlier => {
                        let open = earlier.map(|earlier| format!(",\n{inner}\"chunks\": [\n{inner}  {earlier}"));
                        many = true;
                        let text = format!("{},\n{inner}  {list}", open.unwrap_or_default());
                        self.out.put(text.as_bytes()).await?;
                    }
                }
            }
            begin = end;
        }
        let end = match first {
            Some(only) => format!(",\n{inner}\"chunks\": [{only}]"),
            None if many => format!("\n{inner}]"),
            None => String::new(),
        };
        self.out.put(end.as_bytes()).await
    }

    async fn window(&self, ino: Ino, begin: u64, end: u64) -> Result<Vec<ChunkSlices>, MetaError> {
        self.pages.chunks(ino, begin as u32..end as u32).await
    }
}

fn blanks(level: usize, more: usize) -> String {
    " ".repeat(2 + STEP * level + more)
}

async fn page_of(reading: Reading) -> Result<Page, MetaError> {
    reading.await.map_err(|_| MetaError::Stopped { what: "reading a directory" })?
}
