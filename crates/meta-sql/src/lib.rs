//! Metadata of a volume in a SQL database, in the schema of JuiceFS CE: SQLite today.
//!
//! Maps the record primitives of `shoal-meta` to rows (spec section 22) and knows no rule about them. A volume made by the
//! real client opens unchanged, and both may use it at once: every statement outside a transaction sees the newest commit,
//! and writers queue for SQLite's one write lock.

mod address;
mod failure;
mod insert;
mod row;
mod schema;
mod session;
mod sqlite;
mod statements;
mod txn;

use std::sync::Arc;

use shoal_meta::{Engine, MetaError};

/// Metadata URL schemes that [`open`] knows.
pub const SCHEMES: &[&str] = &["sqlite3"];

/// What the database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To read an existing volume.
    ReadOnly,
    /// To read and change an existing volume.
    ReadWrite,
    /// To create a volume: the database is created where there is none.
    Create,
}

/// Opens the metadata database at `url`, spelled as JuiceFS spells it: `sqlite3://relative.db`, `sqlite3:///absolute.db`,
/// with `?table_prefix=x` and the driver's options.
///
/// Errors: `Invalid` for a URL or scheme that cannot be opened; `NotFound` if there is no database or, except for
/// [`OpenMode::Create`], no volume in it (nothing is created then); `Corrupt` for a file that is no SQLite database.
pub async fn open(url: &str, mode: OpenMode) -> Result<Arc<dyn Engine>, MetaError> {
    let address = address::Address::parse(url)?;
    Ok(Arc::new(sqlite::SqliteEngine::open(&address, mode).await?))
}
