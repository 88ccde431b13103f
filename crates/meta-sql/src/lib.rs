//! Metadata of a volume in a SQL database, in the schema of JuiceFS CE: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! Maps the record primitives of `shoal-meta` to rows (spec section 22) and knows no rule about them. A volume made by the
//! real client opens unchanged, and both may use it at once: every statement outside a transaction sees the newest commit,
//! and writers of a SQLite file queue for its one write lock.

mod address;
mod args;
mod dialect;
mod driver;
mod failure;
mod insert;
mod link;
mod lock_statements;
mod meaning;
mod pool;
mod quota_statements;
mod removal_statements;
mod row;
mod scan;
mod scan_statements;
mod schema;
mod script;
mod server;
mod server_txn;
mod session;
mod sqlite;
mod statements;
mod txn;

use std::sync::Arc;

pub use shoal_meta::OpenMode;
use shoal_meta::{Engine, MetaError, password_of_environment};

use crate::address::Address;

/// Metadata URL schemes that [`open`] knows.
pub const SCHEMES: &[&str] = &["sqlite3", "postgres", "mysql"];

/// Opens the metadata database at `url`, spelled as JuiceFS spells it: `sqlite3://relative.db`, `sqlite3:///absolute.db`,
/// with `?table_prefix=x` and the driver's options.
///
/// Errors: `Invalid` for a URL or scheme that cannot be opened; `NotFound` if there is no database or, except for
/// [`OpenMode::Create`], no volume in it (nothing is created then); `Corrupt` for a file that is no SQLite database.
pub async fn open(url: &str, mode: OpenMode) -> Result<Arc<dyn Engine>, MetaError> {
    Ok(match Address::parse(url, password_of_environment)? {
        Address::Sqlite(address) => Arc::new(sqlite::SqliteEngine::open(&address, mode).await?),
        Address::Postgres(address) => Arc::new(server::open_postgres(&address, mode).await?),
        Address::MySql(address) => Arc::new(server::open_mysql(&address, mode).await?),
    })
}
