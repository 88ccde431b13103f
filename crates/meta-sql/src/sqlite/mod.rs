//! A SQLite database: some connections that read, one that writes.

mod connection;
mod patience;
mod readers;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_meta::{Accounting, Engine, MetaError, Records, Txn};
use shoal_runtime::task;
use shoal_types::ErrorKind;

use crate::OpenMode;
use crate::address::sqlite::SqliteAddress;
use crate::args::Args;
use crate::driver::Driver;
use crate::schema::NODE_COLUMNS;
use crate::session::Session;
use crate::statements::Statements;

use connection::{Purpose, Sqlite, connect, set_journal};
use readers::Readers;
use writer::Writer;

/// Longest wait for a connection.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);

/// Metadata in a SQLite file.
pub(crate) struct SqliteEngine {
    readers: Session<Readers>,
    /// `None` if opened for reading.
    writer: Option<Writer>,
}

impl std::fmt::Debug for SqliteEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteEngine").field(&self.readers.sql.at).finish()
    }
}

impl SqliteEngine {
    /// Opens the database at `address`. Creates nothing unless `mode` says so.
    pub(crate) async fn open(address: &SqliteAddress, mode: OpenMode) -> Result<SqliteEngine, MetaError> {
        let at = &address.name;
        match (check_file(address).await?, mode) {
            (Presence::Missing, OpenMode::ReadOnly | OpenMode::ReadWrite) => {
                return Err(MetaError::NoDatabase { at: address.path.display().to_string() });
            }
            (Presence::Missing, OpenMode::Create) | (Presence::Present, _) => {}
        }
        if mode == OpenMode::Create {
            create(address).await?;
        }
        let readers = Readers::open(address).map_err(|error| Sqlite::failed(at, error.into()))?;
        let columns = match (node_columns(&readers, address).await?, mode) {
            (columns, _) if !columns.is_empty() => columns,
            (_, OpenMode::Create) => NODE_COLUMNS.iter().map(ToString::to_string).collect(),
            (_, OpenMode::ReadOnly | OpenMode::ReadWrite) => return Err(MetaError::NoVolume { at: at.clone() }),
        };
        let sql = Arc::new(Statements::new::<Sqlite>(at, &address.table_prefix, &columns));
        let writer = (mode != OpenMode::ReadOnly).then(|| Writer::new(address));
        Ok(SqliteEngine { readers: Session { link: readers, sql }, writer })
    }
}

/// Makes the file, and has it keep its journal as the address says.
async fn create(address: &SqliteAddress) -> Result<(), MetaError> {
    let of = address.clone();
    let made = task::blocking("sqlite-create", move || {
        let connection = connect(&of, Purpose::Create)?;
        connection.busy_timeout(of.busy_timeout)?;
        set_journal(&connection, of.journal)
    });
    made.await.map_err(|error| Sqlite::failed(&address.name, error.into()))
}

enum Presence {
    Missing,
    Present,
}

async fn check_file(address: &SqliteAddress) -> Result<Presence, MetaError> {
    let failure = |path: &Path, error: io::Error| MetaError::Database {
        at: address.name.clone(),
        detail: format!("{}: {error}", path.display()),
        kind: ErrorKind::of_io(&error),
    };
    match tokio::fs::metadata(&address.path).await {
        Ok(meta) if meta.is_file() => Ok(Presence::Present),
        Ok(_) => Err(MetaError::Invalid { what: format!("{} is no database file", address.path.display()) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Presence::Missing),
        Err(error) => Err(failure(&address.path, error)),
    }
}

/// Columns of the attribute table; none where there is no such table.
async fn node_columns(readers: &Readers, address: &SqliteAddress) -> Result<Vec<String>, MetaError> {
    let sql = Arc::new(Statements::new::<Sqlite>(&address.name, &address.table_prefix, &[]));
    let session = Session { link: readers.clone(), sql };
    let text = format!("SELECT name FROM pragma_table_info('{}node')", address.table_prefix);
    session.rows(&Arc::from(text), Args::default(), |row| row.text(0)).await
}

#[async_trait]
impl Engine for SqliteEngine {
    fn name(&self) -> &str {
        &self.readers.sql.at
    }

    fn records(&self) -> &dyn Records {
        &self.readers
    }

    fn accounting(&self) -> Accounting {
        Accounting::InTransaction
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        let writer = self.writer.as_ref().ok_or_else(|| MetaError::ReadOnly { at: self.name().to_owned() })?;
        let txn = writer.begin().await.map_err(|failure| self.readers.failed(failure))?;
        Ok(Box::new(Session { link: txn, sql: self.readers.sql.clone() }))
    }

    async fn sync(&self) -> Result<(), MetaError> {
        match &self.writer {
            Some(writer) => writer.sync().await,
            None => Ok(()),
        }
    }

    async fn close(&self) {
        self.readers.link.close();
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }
}
