//! What sessions ask of a database's driver, so that the code above names none.

use std::sync::Arc;

use futures::TryStreamExt;
use shoal_meta::MetaError;
use sqlx::error::{BoxDynError, DatabaseError};
use sqlx::{Arguments, AssertSqlSafe, Database, Either, Executor, Row, TypeInfo, ValueRef};

use crate::args::Value;
use crate::dialect::Dialect;
use crate::failure::{self, Failure, failed};

/// What is wanted of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Every row.
    Rows,
    /// The first row.
    Row,
    /// How many rows it found, changed or not.
    Count,
    /// The number it counted up: the one that a statement ending in `RETURNING` gives.
    Counted,
}

/// What a statement gave.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    pub(crate) rows: Vec<R>,
    pub(crate) count: u64,
    /// Where no row says it.
    pub(crate) counted: Option<i64>,
}

impl<R> Answer<R> {
    pub(crate) fn rows(rows: Vec<R>) -> Answer<R> {
        Answer { rows, count: 0, counted: None }
    }

    pub(crate) fn count(count: u64) -> Answer<R> {
        Answer { rows: Vec::new(), count, counted: None }
    }

    pub(crate) fn counted(counted: Option<i64>) -> Answer<R> {
        Answer { rows: Vec::new(), count: 0, counted }
    }
}

/// What a statement gave on a kind of database.
pub(crate) type AnswerOf<D> = Answer<<D as Driver>::Row>;

/// A kind of database and the rows its driver gives. Columns are read by what they hold, not by what they are declared as: SQLite's
/// may hold anything, and the schema's numbers are narrower on the servers.
pub(crate) trait Driver: Send + Sync + 'static {
    /// How the database spells SQL.
    const DIALECT: Dialect;

    /// A row of a result.
    type Row: Send + Sync;

    /// A number; `None` for NULL.
    fn int(row: &Self::Row, index: usize) -> Result<Option<i64>, Failure>;

    /// Bytes of a byte or text column; `None` for NULL.
    fn bytes(row: &Self::Row, index: usize) -> Result<Option<Vec<u8>>, Failure>;

    /// Text.
    fn text(row: &Self::Row, index: usize) -> Result<String, Failure>;

    /// The error a caller sees for any failure on database `at`.
    fn failed(at: &str, failure: Failure) -> MetaError;
}

/// A driver of a server: connections to it are made one by one.
pub(crate) trait Server: Driver<Row = <Self as Database>::Row> + Database {
    /// What a new connection is told first.
    const GREETING: &'static str;
    /// Begins a transaction in which every statement sees the newest commit.
    const BEGIN: &'static str;

    /// Binds values.
    fn bind(values: &[Value<'_>]) -> Result<Self::Arguments, BoxDynError>;

    /// Runs a statement, prepared once for each connection.
    fn run(
        connection: &mut Self::Connection,
        text: &Arc<str>,
        arguments: Self::Arguments,
    ) -> impl Future<Output = Result<AnswerOf<Self>, sqlx::Error>> + Send;

    /// Runs the statements of a script; adds what each gave to `answers`, up to the one that failed.
    fn run_script(
        connection: &mut Self::Connection,
        script: &str,
        answers: &mut Vec<AnswerOf<Self>>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement that is not worth preparing.
    fn run_once(connection: &mut Self::Connection, text: &str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// True if the connection that reported the database's own error is of no more use.
    fn ends_connection(error: &dyn DatabaseError) -> bool;

    /// True if a step of a script failed because it found no row.
    fn found_none(error: &dyn DatabaseError) -> bool;

    /// True if the connection is gone: what was not committed on it is undone.
    fn lost(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(error) => Self::ends_connection(error.as_ref()),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
            _ => false,
        }
    }
}

/// Adds to `$answers` what each statement of a stream gave.
macro_rules! gather {
    ($results:expr, $answers:ident, |$done:ident| $counted:expr) => {{
        let mut results = $results;
        let mut rows = Vec::new();
        while let Some(result) = results.try_next().await? {
            match result {
                Either::Right(row) => rows.push(row),
                Either::Left($done) => {
                    let (count, counted) = ($done.rows_affected(), $counted);
                    $answers.push(Answer { rows: std::mem::take(&mut rows), count, counted });
                }
            }
        }
    }};
}

/// The parts of [`Driver`] and [`Server`] that read the same for every server but that the types of sqlx only allow for a named one.
macro_rules! server {
    (
        $database:ty, $dialect:expr, $failure:ident, $greeting:literal, $begin:literal, |$done:ident| $counted:expr
    ) => {
        impl Driver for $database {
            const DIALECT: Dialect = $dialect;

            type Row = <$database as Database>::Row;

            fn int(row: &<Self as Driver>::Row, index: usize) -> Result<Option<i64>, Failure> {
                Ok(row.try_get_unchecked(index)?)
            }

            fn bytes(row: &<Self as Driver>::Row, index: usize) -> Result<Option<Vec<u8>>, Failure> {
                // The text of a column of text begins with no mark of PostgreSQL's bytes.
                if matches!(row.try_get_raw(index)?.type_info().name(), "TEXT" | "VARCHAR") {
                    let text: Option<String> = row.try_get_unchecked(index)?;
                    return Ok(text.map(String::into_bytes));
                }
                Ok(row.try_get_unchecked(index)?)
            }

            fn text(row: &<Self as Driver>::Row, index: usize) -> Result<String, Failure> {
                Ok(row.try_get_unchecked(index)?)
            }

            fn failed(at: &str, failure: Failure) -> MetaError {
                failed(at, failure, failure::$failure::refused)
            }
        }

        impl Server for $database {
            const GREETING: &'static str = $greeting;
            const BEGIN: &'static str = $begin;

            fn bind(values: &[Value<'_>]) -> Result<Self::Arguments, BoxDynError> {
                let mut arguments = Self::Arguments::default();
                arguments.reserve(values.len(), 0);
                for value in values {
                    match value {
                        Value::Int(value) => arguments.add(*value)?,
                        Value::Bytes(value) => arguments.add(&value[..])?,
                        Value::Text(value) => arguments.add(&value[..])?,
                    }
                }
                Ok(arguments)
            }

            async fn run(
                connection: &mut Self::Connection,
                text: &Arc<str>,
                arguments: Self::Arguments,
            ) -> Result<AnswerOf<Self>, sqlx::Error> {
                let query = sqlx::query_with(AssertSqlSafe(text.clone()), arguments);
                let mut answers = Vec::with_capacity(1);
                gather!(connection.fetch_many(query), answers, |$done| $counted);
                Ok(answers.pop().unwrap_or(Answer::count(0)))
            }

            async fn run_script(
                connection: &mut Self::Connection,
                script: &str,
                answers: &mut Vec<AnswerOf<Self>>,
            ) -> Result<(), sqlx::Error> {
                let script = sqlx::raw_sql(AssertSqlSafe(script.to_owned()));
                gather!(connection.fetch_many(script), answers, |$done| $counted);
                Ok(())
            }

            async fn run_once(connection: &mut Self::Connection, text: &str) -> Result<(), sqlx::Error> {
                sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(connection).await.map(drop)
            }

            fn ends_connection(error: &dyn DatabaseError) -> bool {
                failure::$failure::ends_connection(error)
            }

            fn found_none(error: &dyn DatabaseError) -> bool {
                failure::$failure::found_none(error)
            }
        }
    };
}

server!(sqlx::Postgres, Dialect::Postgres, postgres, "", "BEGIN ISOLATION LEVEL READ COMMITTED", |_done| None);
server!(
    sqlx::MySql,
    Dialect::MySql,
    mysql,
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "BEGIN",
    // The dialect has it counted by LAST_INSERT_ID, which comes with the answer.
    |done| i64::try_from(done.last_insert_id()).ok().filter(|_| done.rows_affected() > 0)
);
