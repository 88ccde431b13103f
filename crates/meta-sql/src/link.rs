//! Where a statement runs: on any connection, or on that of a transaction.

use std::sync::Arc;

use shoal_meta::MetaError;

use crate::args::Args;
use crate::driver::{Answer, Driver, Want};
use crate::failure::Failure;

/// The rows of a link's driver.
pub(crate) type RowOf<L> = <<L as Link>::Driver as Driver>::Row;

/// Runs statements.
pub(crate) trait Link: Send + Sync + Sized {
    /// The database's driver.
    type Driver: Driver;

    /// Runs a statement.
    fn run(
        &self,
        want: Want,
        text: &Arc<str>,
        args: &Args<'_>,
    ) -> impl Future<Output = Result<Answer<RowOf<Self>>, Failure>> + Send;

    /// The error a caller sees for one of [`Link::run`] on database `at`.
    fn failed(&self, at: &str, error: Failure) -> MetaError {
        Self::Driver::failed(at, error)
    }
}

/// Runs the statements of one transaction; dropped, it undoes them.
pub(crate) trait TxnLink: Link {
    /// Runs statements that are not worth preparing: those that create the schema.
    fn run_once(&self, texts: &[String]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Makes the writes visible and durable.
    fn commit(self, at: &str) -> impl Future<Output = Result<(), MetaError>> + Send;
}
