//! Transactions on a server, in few round trips.
//!
//! BEGIN goes with the first statement. A write waits until somebody asks for something, and the last ones go with COMMIT, all in one
//! script: the server does nothing of it after a statement that failed. COMMIT is never the first thing that a connection is told, so
//! one that is gone by then is replaced, and a change of which nobody knows whether it was made is as rare as it can be.

use std::collections::VecDeque;
use std::sync::Arc;

use shoal_meta::MetaError;
use shoal_types::ErrorKind;
use tokio::sync::Mutex;

use crate::args::{Args, Value};
use crate::dialect::Dialect;
use crate::driver::{Answer, AnswerOf, Server, Want};
use crate::failure::Failure;
use crate::link::{Link, Question, RowOf, TxnLink, judge};
use crate::meaning::{Finds, Meaning};
use crate::pool::{Lease, Pool, Reuse};
use crate::script::Script;

/// Most values and bytes of a statement in a script: a larger one is better off prepared, and alone.
const SMALL_VALUES: usize = 64;
const SMALL_BYTES: usize = 4096;
/// Writes put off at most.
const KEPT_MAX: usize = 64;

/// One transaction.
pub(crate) struct ServerTxn<D: Server>(Mutex<Open<D>>);

struct Open<D: Server> {
    pool: Pool<D>,
    /// `None` if the connection was lost before anything was done on it, and there is no other.
    lease: Option<Lease<D>>,
    /// Writes put off.
    kept: Vec<Kept>,
    /// Answers to what was said to be asked next, in that order.
    foreseen: VecDeque<Foreseen<D>>,
    /// A statement failed after which nothing of the transaction may be committed.
    broken: bool,
}

/// An answer to what is still to be asked.
struct Foreseen<D: Server> {
    text: Arc<str>,
    values: Vec<Value<'static>>,
    answer: AnswerOf<D>,
}

/// A statement and its values.
type Asked<'a> = (&'a Arc<str>, &'a [Value<'a>]);

/// A write put off.
struct Kept {
    text: Arc<str>,
    values: Vec<Value<'static>>,
    meaning: Meaning,
}

impl<D: Server> ServerTxn<D> {
    /// A transaction that the first statement begins.
    pub(crate) fn new(pool: Pool<D>, lease: Lease<D>) -> ServerTxn<D> {
        ServerTxn(Mutex::new(Open {
            pool,
            lease: Some(lease),
            kept: Vec::new(),
            foreseen: VecDeque::new(),
            broken: false,
        }))
    }
}

impl<D: Server> Open<D> {
    fn begun(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.open)
    }

    fn lease(&mut self) -> Result<&mut Lease<D>, Failure> {
        self.lease.as_mut().ok_or(Failure::Closed)
    }

    /// Tells the server what was put off, and `asked`, whose answers it gives. A connection that turns out to be gone is replaced if
    /// nothing was done on it.
    async fn tell(&mut self, asked: &[Asked<'_>]) -> Result<Vec<AnswerOf<D>>, Failure> {
        self.foreseen.clear();
        let first = !self.begun();
        let mut done = self.tell_once(asked).await;
        if first && done.as_ref().is_err_and(|(_, error)| D::lost(error) && !timed_out(error)) {
            // It goes first: it may be the only one there is.
            self.lease = None;
            self.lease = Some(self.pool.lease(Reuse::None).await?);
            done = self.tell_once(asked).await;
        }
        match done {
            Ok(mut answers) => {
                let asked = answers.split_off(self.kept.len());
                self.kept.clear();
                Ok(asked)
            }
            Err((step, error)) => {
                // PostgreSQL answers COMMIT with success after a failed statement, and undoes everything.
                let asked = step.is_some_and(|step| step >= self.kept.len());
                self.broken = self.broken || !asked || D::lost(&error) || D::DIALECT == Dialect::Postgres;
                let failure = self.failure(step, error);
                self.kept.clear();
                Err(failure)
            }
        }
    }

    async fn tell_once(&mut self, asked: &[Asked<'_>]) -> Result<Vec<AnswerOf<D>>, (Option<usize>, sqlx::Error)> {
        let Some(lease) = &mut self.lease else { return Err((None, sqlx::Error::PoolClosed)) };
        let mut script = Script::new(D::DIALECT);
        if !lease.open {
            script.frame(D::BEGIN);
        }
        for kept in &self.kept {
            script.step(lease.names(), &kept.text, &kept.values, kept.meaning.finds());
        }
        for (text, values) in asked {
            script.step(lease.names(), text, values, Finds::Any);
        }
        lease.tell(script).await
    }

    /// The answer to a statement, if it was said to come next. After any other what was foreseen is old: see [`Open::tell`].
    fn take_foreseen(&mut self, text: &Arc<str>, values: &[Value<'_>]) -> Option<AnswerOf<D>> {
        let is_next = |next: &mut Foreseen<D>| Arc::ptr_eq(&next.text, text) && next.values == values;
        self.foreseen.pop_front_if(is_next).map(|next| next.answer)
    }

    /// What it means that `step` of a script failed, which begins with what was put off.
    fn failure(&self, step: Option<usize>, error: sqlx::Error) -> Failure {
        match step.and_then(|step| self.kept.get(step)) {
            Some(kept) => {
                let found_none = error.as_database_error().is_some_and(D::found_none);
                let none = found_none && kept.meaning.finds() == Finds::Some;
                Failure::Write(kept.meaning.clone(), (!none).then(|| Box::new(error.into())))
            }
            None => error.into(),
        }
    }

    /// Does what was put off, in a transaction that is begun.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        self.foreseen.clear();
        if self.begun() && self.kept.is_empty() {
            return Ok(());
        }
        self.tell(&[]).await.map(drop)
    }

    /// Runs a large statement.
    async fn run_alone(&mut self, text: &Arc<str>, args: &Args<'_>) -> Result<AnswerOf<D>, Failure> {
        self.catch_up().await?;
        let done = self.lease()?.run(text, args).await;
        self.broken |= done.as_ref().is_err_and(|error| lost::<D>(error) || D::DIALECT == Dialect::Postgres);
        done
    }

    async fn commit(mut self, at: &str) -> Result<(), MetaError> {
        if !self.begun() && !self.kept.is_empty() {
            self.catch_up().await.map_err(|failure| failed::<D>(at, failure))?;
        }
        if self.broken {
            return Err(MetaError::Contended { at: at.to_owned() });
        }
        let Some(lease) = self.lease.as_mut().filter(|lease| lease.open) else { return Ok(()) };
        let mut script = Script::new(D::DIALECT);
        for kept in &self.kept {
            script.step(lease.names(), &kept.text, &kept.values, kept.meaning.finds());
        }
        script.frame("COMMIT");
        match lease.tell(script).await {
            Ok(_) => {
                lease.open = false;
                Ok(())
            }
            // The server's own word about a write: it did not come to COMMIT.
            Err((Some(step), error @ sqlx::Error::Database(_))) => {
                Err(failed::<D>(at, self.failure(Some(step), error)))
            }
            Err((_, error)) if D::lost(&error) => Err(MetaError::Database {
                at: at.to_owned(),
                detail: "the connection was lost while it committed, so the change may have been made or not"
                    .to_owned(),
                kind: ErrorKind::Unavailable,
            }),
            Err((_, error)) => Err(D::failed(at, error.into())),
        }
    }
}

/// True if it took too long: another connection would take as long.
fn timed_out(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// True if the connection is gone.
fn lost<D: Server>(failure: &Failure) -> bool {
    match failure {
        Failure::Server(error) => D::lost(error),
        Failure::Write(_, Some(cause)) => lost::<D>(cause),
        _ => false,
    }
}

/// Without its connection a transaction is undone, so it may run again.
fn failed<D: Server>(at: &str, failure: Failure) -> MetaError {
    match lost::<D>(&failure) {
        true => MetaError::Contended { at: at.to_owned() },
        false => D::failed(at, failure),
    }
}

/// The values with which the statement is asked that `answer` answers; `None` if nobody can know them.
fn known_as<D: Server>(question: &Question<'_>, answer: &AnswerOf<D>) -> Result<Option<Vec<Value<'static>>>, Failure> {
    if question.answers.is_none() {
        let values = question.args.values()?;
        return Ok(Some(values.iter().cloned().map(Value::into_owned).collect()));
    }
    let Some(row) = answer.rows.first() else { return Ok(None) };
    Ok(D::int(row, 0)?.map(|first| vec![Value::Int(first)]))
}

fn is_small(values: &[Value<'_>]) -> bool {
    values.len() <= SMALL_VALUES && values.iter().map(Value::size).sum::<usize>() <= SMALL_BYTES
}

impl<D: Server> Link for ServerTxn<D> {
    type Driver = D;

    async fn run(&self, _want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<Self>>, Failure> {
        let values = args.values()?;
        let mut open = self.0.lock().await;
        if let Some(answer) = open.take_foreseen(text, values) {
            return Ok(answer);
        }
        if !is_small(values) {
            return open.run_alone(text, args).await;
        }
        let mut answers = open.tell(&[(text, values)]).await?;
        Ok(answers.pop().expect("a script that was done gave an answer for each step"))
    }

    fn failed(&self, at: &str, error: Failure) -> MetaError {
        failed::<D>(at, error)
    }
}

impl<D: Server> TxnLink for ServerTxn<D> {
    async fn write(&self, text: &Arc<str>, args: &Args<'_>, meaning: Meaning) -> Result<(), Failure> {
        let values = args.values()?;
        let mut open = self.0.lock().await;
        if !is_small(values) {
            let done = open.run_alone(text, args).await;
            return judge(done.map(|answer| answer.count), meaning);
        }
        open.foreseen.clear();
        let values = values.iter().cloned().map(Value::into_owned).collect();
        open.kept.push(Kept { text: text.clone(), values, meaning });
        if open.kept.len() < KEPT_MAX { Ok(()) } else { open.catch_up().await }
    }

    async fn foresee(&self, questions: &[Question<'_>]) -> Result<(), Failure> {
        let asked = questions.iter().map(|question| Ok((question.text, question.args.values()?)));
        let asked = asked.collect::<Result<Vec<_>, Failure>>()?;
        let mut open = self.0.lock().await;
        let answers = open.tell(&asked).await?;
        for (question, answer) in questions.iter().zip(answers) {
            let Some(values) = known_as::<D>(question, &answer)? else { continue };
            let text = question.answers.unwrap_or(question.text).clone();
            open.foreseen.push_back(Foreseen { text, values, answer });
        }
        Ok(())
    }

    async fn write_now(&self) -> Result<(), Failure> {
        let mut open = self.0.lock().await;
        if open.kept.is_empty() { Ok(()) } else { open.catch_up().await }
    }

    async fn run_once(&self, texts: &[String]) -> Result<(), Failure> {
        let mut open = self.0.lock().await;
        open.catch_up().await?;
        let lease = open.lease()?;
        if D::DIALECT == Dialect::Postgres {
            // Two that create tables at once would fail in its catalogue. The number stands for "shoal".
            lease.run_once("SELECT pg_advisory_xact_lock(495623497068)").await?;
        }
        for text in texts {
            lease.run_once(text).await?;
        }
        if D::DIALECT == Dialect::MySql {
            // There, statements that create tables commit; what follows them is a transaction again.
            lease.run_once(D::BEGIN).await?;
        }
        Ok(())
    }

    async fn commit(self, at: &str) -> Result<(), MetaError> {
        self.0.into_inner().commit(at).await
    }
}
