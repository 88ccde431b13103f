//! Inserts of many rows: few statements, each prepared once.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};

/// Outcome of binding a value to a statement.
pub(crate) type Binding = Result<(), BoxDynError>;

/// Rows of one statement, largest first. A statement is prepared for each size, so there are few; 128 rows of 19 columns
/// stay far below SQLite's bound of 32,766 parameters.
const SIZES: [usize; 3] = [128, 16, 1];

/// An insert into one table.
#[derive(Debug)]
pub(crate) struct Insert {
    texts: [Arc<str>; SIZES.len()],
}

/// An insert that failed, and the rows of the statement that did.
pub(crate) struct Failed<'r, T> {
    pub(crate) error: sqlx::Error,
    pub(crate) rows: &'r [T],
}

impl Insert {
    /// Inserts rows `row` (`(?,?)`) with `head` (`INSERT INTO t(a,b)`) and what follows the values, if anything.
    pub(crate) fn new(head: &str, row: &str, tail: &str) -> Insert {
        let texts = SIZES.map(|size| Arc::from(format!("{head} VALUES {} {tail}", vec![row; size].join(","))));
        Insert { texts }
    }

    /// Inserts `rows`, each bound by `bind`.
    pub(crate) async fn run<'r, T>(
        &self,
        conn: &mut SqliteConnection,
        rows: &'r [T],
        bind: impl Fn(&mut SqliteArguments, &T) -> Binding,
    ) -> Result<(), Failed<'r, T>> {
        let mut rest = rows;
        for (size, text) in SIZES.iter().zip(&self.texts) {
            while rest.len() >= *size {
                let (batch, later) = rest.split_at(*size);
                self.one(conn, text, batch, &bind).await.map_err(|error| Failed { error, rows: batch })?;
                rest = later;
            }
        }
        Ok(())
    }

    async fn one<T>(
        &self,
        conn: &mut SqliteConnection,
        text: &Arc<str>,
        rows: &[T],
        bind: &impl Fn(&mut SqliteArguments, &T) -> Binding,
    ) -> Result<(), sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows.len() * 4, 0);
        for row in rows {
            bind(&mut arguments, row).map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(text.clone()), arguments).execute(conn).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_hold_as_many_rows_as_they_say() {
        let insert = Insert::new("INSERT INTO t(a,b)", "(?,?)", "ON CONFLICT DO NOTHING");
        assert_eq!(insert.texts[2].as_ref(), "INSERT INTO t(a,b) VALUES (?,?) ON CONFLICT DO NOTHING");
        assert_eq!(insert.texts[0].matches("(?,?)").count(), SIZES[0]);
    }
}
