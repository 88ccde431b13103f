//! Dumps of a volume's metadata, as JuiceFS writes them: the JSON one (spec section 27.1), to the byte, and the binary one.
//!
//! Streamed: memory holds a page of each directory on the way down, and some read ahead. A volume that changes meanwhile is dumped as
//! its parts were when they were read.

pub(crate) mod binary;
mod header;
mod page;
mod text;
mod tree;

use std::sync::atomic::AtomicU64;

use bytes::{Bytes, BytesMut};
use shoal_format::Ino;
use tokio::sync::mpsc::Sender;

use crate::error::MetaError;
use crate::meta::Meta;

pub use binary::dump_binary;

/// Bytes handed on at once.
const PART_BYTES: usize = 256 << 10;

/// What is dumped, and how.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// Path of the directory that is dumped as the root; `/` for the whole volume.
    pub subdir: Vec<u8>,
    /// Keep the object store's secrets.
    pub keep_secrets: bool,
    /// Leave the trash out.
    pub skip_trash: bool,
    /// Directories read ahead.
    pub threads: usize,
}

impl Default for DumpOptions {
    fn default() -> DumpOptions {
        DumpOptions { subdir: b"/".to_vec(), keep_secrets: false, skip_trash: false, threads: 10 }
    }
}

/// Dumps the volume of `meta` as JSON text, in parts, to `out`. `names` counts what was dumped so far.
///
/// Names without an inode and what else is damaged is logged and dumped as real clients do. Errors: `NotFound` and `Invalid` for a
/// `subdir` that is no directory; `Cancelled` where nobody takes the text any more; what the database reports.
pub async fn dump_json(
    meta: &Meta,
    options: &DumpOptions,
    out: Sender<Bytes>,
    names: &AtomicU64,
) -> Result<(), MetaError> {
    let (root, attr) = match meta.resolve_path(&options.subdir).await? {
        Some((ino, attr)) if attr.is_dir() => (ino, attr),
        found => {
            let path = String::from_utf8_lossy(&options.subdir).into_owned();
            let lost = || MetaError::invalid(format!("there is no `{path}` in the volume"));
            return Err(found.map_or_else(lost, |_| MetaError::NotDirectory { what: path.clone() }));
        }
    };
    let mut sink = Sink { out, text: BytesMut::new() };
    header::write(meta, options.keep_secrets, &mut sink).await?;
    let mut walk = tree::Walk::new(meta, options.threads, &mut sink, names);
    walk.tree(b"FSTree", root, attr).await?;
    let trash = if options.skip_trash || root != Ino::ROOT { None } else { meta.getattr(Ino::TRASH).await? };
    if let Some(attr) = trash {
        walk.sink().put(b",\n").await?;
        walk.tree(b"Trash", Ino::TRASH, attr).await?;
    }
    sink.put(b"\n}\n").await?;
    sink.flush().await
}

/// Where the text goes.
struct Sink {
    out: Sender<Bytes>,
    text: BytesMut,
}

impl Sink {
    async fn put(&mut self, text: &[u8]) -> Result<(), MetaError> {
        self.text.extend_from_slice(text);
        if self.text.len() >= PART_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), MetaError> {
        let part = self.text.split().freeze();
        self.out.send(part).await.map_err(|_| MetaError::Stopped { what: "the dump" })
    }
}
