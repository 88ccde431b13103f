//! Inserts of many rows: few statements, each prepared once.

use std::sync::Arc;

use crate::args::Args;
use crate::dialect::Dialect;
use crate::driver::Want;
use crate::failure::Failure;
use crate::link::TxnLink;
use crate::meaning::Meaning;

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
    pub(crate) error: Failure,
    pub(crate) rows: &'r [T],
}

impl Insert {
    /// Inserts rows `row` (`(?,?)`) with `head` (`INSERT INTO t(a,b)`) and what follows the values, if anything.
    pub(crate) fn new(dialect: Dialect, head: &str, row: &str, tail: &str) -> Insert {
        let text = |size: usize| dialect.text(&format!("{head} VALUES {} {tail}", vec![row; size].join(",")));
        Insert { texts: SIZES.map(|size| Arc::from(text(size))) }
    }

    /// Inserts `rows`, each bound by `bind`; one that is alone has a `meaning`.
    pub(crate) async fn run<'r, L: TxnLink, T>(
        &self,
        link: &L,
        rows: &'r [T],
        bind: impl Fn(&mut Args<'r>, &'r T),
        meaning: impl Fn(&T) -> Meaning,
    ) -> Result<(), Failed<'r, T>> {
        let mut rest = rows;
        for (size, text) in SIZES.iter().zip(&self.texts) {
            while rest.len() >= *size {
                let (batch, later) = rest.split_at(*size);
                let mut args = Args::with_capacity(batch.len() * 4);
                batch.iter().for_each(|row| bind(&mut args, row));
                let done = match batch {
                    [row] => link.write(text, &args, meaning(row)).await,
                    _ => link.run(Want::Count, text, &args).await.map(drop),
                };
                done.map_err(|error| Failed { error, rows: batch })?;
                rest = later;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_hold_as_many_rows_as_they_say() {
        let insert = Insert::new(Dialect::Sqlite, "INSERT INTO t(a,b)", "(?,?)", "ON CONFLICT DO NOTHING");
        assert_eq!(insert.texts[2].as_ref(), "INSERT INTO t(a,b) VALUES (?,?) ON CONFLICT DO NOTHING");
        assert_eq!(insert.texts[0].matches("(?,?)").count(), SIZES[0]);
    }
}
