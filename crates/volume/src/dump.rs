//! `dump` and `load`: a volume's metadata as a file, and back.
//!
//! A file whose name ends in `.gz` is compressed, as with JuiceFS. A dump appears under its name only when it is whole.

use std::fs::{File, OpenOptions as FileOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use shoal_format::{ClientRole, Settings};
use shoal_meta::Meta;
use shoal_meta::dump::{DumpOptions, dump_binary, dump_json};
use shoal_meta::load::{Segment, load_binary, load_json, segments};
use shoal_meta_sql::OpenMode;
use shoal_runtime::task;
use tokio::sync::{mpsc, oneshot};

use crate::engine::open_engine;
use crate::error::VolumeError;

/// Parts of the text that wait to be written.
const PARTS_AHEAD: usize = 4;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// Where a dump goes, or comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpPlace {
    /// Standard output or input.
    Standard,
    /// A file.
    File(PathBuf),
}

/// Which of its two forms a dump has.
#[derive(Debug, Clone)]
pub enum DumpForm {
    /// JSON text, of a part of the volume if asked for.
    Json(DumpOptions),
    /// Every record as it is.
    Binary {
        /// Keep the object store's secrets.
        keep_secrets: bool,
    },
}

/// Which form a dump to load has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadForm {
    /// JSON text.
    Json,
    /// The binary one.
    Binary,
}

/// How a dump that was encrypted as an object is opened.
#[derive(Debug, Clone)]
pub struct DumpKey {
    /// PEM file of the RSA key.
    pub path: PathBuf,
    /// `aes256gcm-rsa` or `chacha20-rsa`.
    pub algorithm: String,
    /// Of the key, if it has one.
    pub passphrase: Option<String>,
}

/// Writes the metadata of the volume at `url` to `place`. `names` counts what was written so far.
///
/// Errors: what the metadata engine reports; `Invalid` for a part of the volume that is no directory; what `place` refuses.
pub async fn dump(url: &str, place: &DumpPlace, form: &DumpForm, names: &AtomicU64) -> Result<(), VolumeError> {
    let meta = Meta::new(open_engine(url, OpenMode::ReadOnly).await?);
    meta.settings().await?.check_client_as(ClientRole::ReadOnly)?;
    let keep_secrets = match form {
        DumpForm::Json(options) => options.keep_secrets,
        DumpForm::Binary { keep_secrets } => *keep_secrets,
    };
    let output = Output::create(place, keep_secrets)?;
    let (sender, parts) = mpsc::channel(PARTS_AHEAD);
    let (done, written) = oneshot::channel();
    let shown = output.shown();
    drop(task::thread("dump-writer", move || {
        // Nobody waits for it where reading failed first.
        let _ = done.send(output.write_all(parts));
    }));
    let dumped = match form {
        DumpForm::Json(options) => dump_json(&meta, options, sender, names).await,
        DumpForm::Binary { .. } => dump_binary(&meta, keep_secrets, sender, names).await,
    };
    let written = written.await.unwrap_or_else(|_| Err(io::Error::other("the writer is gone")));
    meta.close().await;
    let output = match (written, &dumped) {
        (Ok(output), _) => output,
        // That nobody took the text has this reason.
        (Err(source), _) => return Err(VolumeError::DumpFile { path: shown, source }),
    };
    dumped?;
    output.keep().map_err(|source| VolumeError::DumpFile { path: shown, source })
}

/// Loads the dump at `place` into the empty database at `url`; gives the volume's setting. `names` counts what was loaded so far.
///
/// Errors: `Conflict` for a database that is not empty; `Invalid` for what is no dump; what the engine and `place` report.
pub async fn load(
    url: &str,
    place: &DumpPlace,
    key: Option<&DumpKey>,
    form: LoadForm,
    names: &AtomicU64,
) -> Result<Settings, VolumeError> {
    let input = input(place, key)?;
    let meta = Meta::new(open_engine(url, OpenMode::Create).await?);
    let loaded = match form {
        LoadForm::Binary => load_binary(&meta, input, names).await,
        LoadForm::Json => load_json(&meta, input, names).await,
    };
    meta.close().await;
    Ok(loaded?)
}

/// Version and index of the binary dump at `path`.
pub fn index(path: &Path) -> Result<(u64, Vec<Segment>), VolumeError> {
    let read = || -> io::Result<Option<(u64, Vec<Segment>)>> {
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let mut tail = [0; 8];
        file.seek(SeekFrom::Start(len.saturating_sub(8)))?;
        file.read_exact(&mut tail)?;
        let footer_len = u64::from_be_bytes(tail);
        let Some(at) = len.checked_sub(8).and_then(|end| end.checked_sub(footer_len)) else { return Ok(None) };
        file.seek(SeekFrom::Start(at))?;
        let mut footer = Vec::new();
        file.take(footer_len).read_to_end(&mut footer)?;
        Ok(segments(&footer))
    };
    let wrong = |source| VolumeError::DumpFile { path: path.to_owned(), source };
    let none = || io::Error::new(io::ErrorKind::InvalidData, "it does not end as a binary dump does");
    read().map_err(wrong)?.ok_or_else(|| wrong(none()))
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

fn input(place: &DumpPlace, key: Option<&DumpKey>) -> Result<Box<dyn BufRead + Send>, VolumeError> {
    let (path, plain): (PathBuf, Box<dyn Read + Send>) = match place {
        DumpPlace::Standard => ("standard input".into(), Box::new(io::stdin())),
        DumpPlace::File(path) => {
            let file = File::open(path).map_err(|source| VolumeError::DumpFile { path: path.clone(), source })?;
            (path.clone(), Box::new(file))
        }
    };
    let opened: Box<dyn Read + Send> = match key {
        None => plain,
        Some(key) => Box::new(io::Cursor::new(decrypted(plain, &path, key)?)),
    };
    Ok(match is_compressed(&path) {
        true => Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(opened))),
        false => Box::new(BufReader::with_capacity(READ_BYTES, opened)),
    })
}

/// What was encrypted as one object, which can only be opened whole.
fn decrypted(mut sealed: Box<dyn Read + Send>, path: &Path, key: &DumpKey) -> Result<Bytes, VolumeError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| VolumeError::DumpFile { path, source }
    };
    let pem = std::fs::read_to_string(&key.path).map_err(wrong(&key.path))?;
    let mut settings = Settings::new("dump", "");
    (settings.encrypt_key, settings.encrypt_algo) = (pem, key.algorithm.clone());
    let codec = settings.codec(key.passphrase.as_deref())?;
    let mut bytes = Vec::new();
    sealed.read_to_end(&mut bytes).map_err(wrong(path))?;
    Ok(codec.decrypt_object(Bytes::from(bytes))?)
}

/// A dump that is being written.
struct Output {
    place: DumpPlace,
    /// Where it is until it is whole; `None` for what has no other name, as a pipe.
    partial: Option<PathBuf>,
    to: Option<Text>,
}

/// What takes the text.
enum Text {
    Standard(BufWriter<io::Stdout>),
    Plain(BufWriter<File>),
    Compressed(GzEncoder<BufWriter<File>>),
}

impl Text {
    fn put(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Text::Standard(to) => to.write_all(part),
            Text::Plain(to) => to.write_all(part),
            Text::Compressed(to) => to.write_all(part),
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Text::Standard(mut to) => to.flush(),
            Text::Plain(mut to) => to.flush(),
            Text::Compressed(to) => to.finish()?.flush(),
        }
    }
}

impl Output {
    fn create(place: &DumpPlace, secret: bool) -> Result<Output, VolumeError> {
        let DumpPlace::File(path) = place else {
            let to = Text::Standard(BufWriter::new(io::stdout()));
            return Ok(Output { place: place.clone(), partial: None, to: Some(to) });
        };
        let special = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
        let partial = (!special).then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(".partial");
            PathBuf::from(name)
        });
        let mode = if secret { 0o600 } else { 0o644 };
        let opened = FileOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(partial.as_ref().unwrap_or(path));
        let file = opened.map_err(|source| VolumeError::DumpFile { path: path.clone(), source })?;
        let to = match is_compressed(path) {
            true => Text::Compressed(GzEncoder::new(BufWriter::new(file), Compression::fast())),
            false => Text::Plain(BufWriter::new(file)),
        };
        Ok(Output { place: place.clone(), partial, to: Some(to) })
    }

    /// The place as messages name it.
    fn shown(&self) -> PathBuf {
        match &self.place {
            DumpPlace::Standard => "standard output".into(),
            DumpPlace::File(path) => path.clone(),
        }
    }

    fn write_all(mut self, mut parts: mpsc::Receiver<Bytes>) -> io::Result<Output> {
        if let Some(mut to) = self.to.take() {
            while let Some(part) = parts.blocking_recv() {
                to.put(&part)?;
            }
            to.end()?;
        }
        Ok(self)
    }

    /// Gives the dump, which is whole, its name.
    fn keep(mut self) -> io::Result<()> {
        let (DumpPlace::File(path), Some(partial)) = (&self.place, self.partial.take()) else { return Ok(()) };
        File::open(&partial)?.sync_all()?;
        std::fs::rename(partial, path)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take()
            && let Err(error) = std::fs::remove_file(&partial)
        {
            tracing::warn!(path = %partial.display(), %error, "a part of a dump is left behind");
        }
    }
}
