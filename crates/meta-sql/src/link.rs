//! Where a statement runs: on any connection, or on that of a transaction.

use std::sync::Arc;

use shoal_meta::MetaError;

use crate::args::Args;
use crate::driver::{Answer, Driver, Want};
use crate::failure::Failure;
use crate::meaning::{Finds, Meaning};

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

/// A statement that reads, and what it is asked with.
pub(crate) struct Question<'a> {
    pub(crate) text: &'a Arc<str>,
    pub(crate) args: Args<'a>,
    /// The statement that its answer answers too, if asked with the first column of its row; left out, itself.
    pub(crate) answers: Option<&'a Arc<str>>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(text: &'a Arc<str>, args: Args<'a>) -> Question<'a> {
        Question { text, args, answers: None }
    }
}

/// Runs the statements of one transaction; dropped, it undoes them.
pub(crate) trait TxnLink: Link {
    /// Runs a write of which only a failure matters. It may be put off: the failure then comes from a later call.
    fn write(
        &self,
        text: &Arc<str>,
        args: &Args<'_>,
        meaning: Meaning,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            let done = self.run(Want::Count, text, args).await;
            judge(done.map(|answer| answer.count), meaning)
        }
    }

    /// Is told what is asked next, in this order, and may ask for it now.
    fn foresee(&self, _questions: &[Question<'_>]) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Runs every write that was put off.
    fn write_now(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Runs statements that are not worth preparing: those that create the schema.
    fn run_once(&self, texts: &[String]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Makes the writes visible and durable.
    fn commit(self, at: &str) -> impl Future<Output = Result<(), MetaError>> + Send;
}

/// What a write that found `count` rows, or failed, came to.
pub(crate) fn judge(count: Result<u64, Failure>, meaning: Meaning) -> Result<(), Failure> {
    match count {
        Ok(0) if meaning.finds() == Finds::Some => Err(Failure::Write(meaning, None)),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Write(meaning, Some(Box::new(error)))),
    }
}
