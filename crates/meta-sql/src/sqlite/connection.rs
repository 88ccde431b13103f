//! One connection to a SQLite file, and statements on it.
//!
//! Statements run on the thread that asks: most take a few microseconds, and handing one to another thread and back costs more than
//! that. Those that may take long are run on a thread of their own by whoever knows them.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};

use crate::address::sqlite::{Journal, SqliteAddress};
use crate::args::Value;
use crate::dialect::Dialect;
use crate::driver::{Answer, Driver, Want};
use crate::failure::{self, Failure};

/// Prepared statements a connection keeps: all of ours.
const STATEMENT_CACHE: usize = 160;

/// SQLite through its C library, in this process.
pub(crate) struct Sqlite;

/// A row: its values in the order of the columns.
pub(crate) type SqliteRow = Box<[rusqlite::types::Value]>;

impl Driver for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;

    type Row = SqliteRow;

    fn int(row: &SqliteRow, index: usize) -> Result<Option<i64>, Failure> {
        match row.get(index) {
            Some(rusqlite::types::Value::Integer(value)) => Ok(Some(*value)),
            Some(rusqlite::types::Value::Null) => Ok(None),
            other => Err(unexpected(index, "a number", other)),
        }
    }

    fn bytes(row: &SqliteRow, index: usize) -> Result<Option<Vec<u8>>, Failure> {
        match row.get(index) {
            Some(rusqlite::types::Value::Blob(bytes)) => Ok(Some(bytes.clone())),
            Some(rusqlite::types::Value::Text(text)) => Ok(Some(text.clone().into_bytes())),
            Some(rusqlite::types::Value::Null) => Ok(None),
            other => Err(unexpected(index, "bytes", other)),
        }
    }

    fn text(row: &SqliteRow, index: usize) -> Result<String, Failure> {
        let bytes = Sqlite::bytes(row, index)?.unwrap_or_default();
        String::from_utf8(bytes).map_err(|_| Failure::Column(format!("result column {index} is no UTF-8 text")))
    }

    fn failed(at: &str, failure: Failure) -> shoal_meta::MetaError {
        // Of a server it cannot be.
        failure::failed(at, failure, failure::postgres::refused)
    }
}

fn unexpected(index: usize, wanted: &str, found: Option<&rusqlite::types::Value>) -> Failure {
    let found = found.map_or("nothing".to_owned(), |value| value.data_type().to_string());
    Failure::Column(format!("result column {index} should be {wanted} and is {found}"))
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading a database that is there.
    Read,
    /// Writing one that is there.
    Write,
    /// Writing one that may have to be made.
    Create,
}

/// Opens the database. It waits for nobody's lock: whoever asks does, without holding a thread.
pub(crate) fn connect(address: &SqliteAddress, purpose: Purpose) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match purpose {
            Purpose::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Purpose::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Purpose::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
    let connection = Connection::open_with_flags(&address.path, flags)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// Has the database keep its journal so.
pub(crate) fn set_journal(connection: &Connection, journal: Journal) -> rusqlite::Result<()> {
    let name = match journal {
        Journal::Wal => "WAL",
        Journal::Delete => "DELETE",
        Journal::Truncate => "TRUNCATE",
        Journal::Persist => "PERSIST",
    };
    connection.pragma_update_and_check(None, "journal_mode", name, |_| Ok(()))
}

/// Whether the database keeps a write-ahead log.
pub(crate) fn has_wal(connection: &Connection) -> rusqlite::Result<bool> {
    connection.pragma_query_value(None, "journal_mode", |row| Ok(row.get::<_, String>(0)?.eq_ignore_ascii_case("wal")))
}

/// Runs a statement, prepared once for each connection.
pub(crate) fn run(
    connection: &Connection,
    want: Want,
    text: &str,
    values: &[Value<'_>],
) -> rusqlite::Result<Answer<SqliteRow>> {
    let mut statement = connection.prepare_cached(text)?;
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    if want == Want::Count {
        return Ok(Answer::count(statement.raw_execute()? as u64));
    }
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    if want == Want::Counted {
        let counted = rows.next()?.map(|row| row.get(0)).transpose()?;
        return Ok(Answer::counted(counted));
    }
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((0..columns).map(|index| row.get(index)).collect::<rusqlite::Result<SqliteRow>>()?);
        if want == Want::Row {
            break;
        }
    }
    Ok(Answer::rows(found))
}
