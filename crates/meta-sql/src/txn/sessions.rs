//! Sessions.

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{Job, MetaError, Serial, SessionRecord, SessionRecords, SessionTxn};

use crate::args::Args;
use crate::failure::damaged;
use crate::link::{Link, TxnLink};
use crate::removal_statements::serial_name;
use crate::session::Session;

fn sid_args<'a>(sid: u64) -> Args<'a> {
    Args::default().ino(Ino(sid))
}

#[async_trait]
impl<L: Link> SessionRecords for Session<L> {
    async fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError> {
        self.rows(&self.sql.removal.sessions, Args::default(), |row| {
            Ok(SessionRecord { sid: row.number(0, "sid")?, expire: row.int(1)?, info: row.bytes(2)? })
        })
        .await
    }

    async fn expired_sessions(&self, before: i64, limit: usize) -> Result<Vec<u64>, MetaError> {
        let args = Args::default().with(before).with(i64::try_from(limit).unwrap_or(i64::MAX));
        self.rows(&self.sql.removal.expired_sessions, args, |row| row.number(0, "sid")).await
    }

    async fn sustained(&self, sid: u64) -> Result<Vec<Ino>, MetaError> {
        self.rows(&self.sql.removal.sustained, sid_args(sid), |row| row.ino(0)).await
    }
}

#[async_trait]
impl<L: TxnLink> SessionTxn for Session<L> {
    /// SQL engines store the last number handed out (spec section 12).
    async fn take_serial(&self, serial: Serial) -> Result<u64, MetaError> {
        let name = serial_name(serial);
        let args = || Args::default().with(1i64).with(name);
        let value = match self.count_up(&self.sql.take_ids, args()).await? {
            None => {
                self.write(&self.sql.first_counter, Args::default().with(name).with(0i64)).await?;
                self.count_up(&self.sql.take_ids, args()).await?
            }
            value => value,
        };
        let value = value.and_then(|value| u64::try_from(value).ok());
        value.ok_or_else(|| damaged(&self.sql.at, &format!("counter {name} is impossible")))
    }

    async fn elect(&self, job: Job, now: i64, period: i64) -> Result<bool, MetaError> {
        let (name, before) = (job.counter_name(), now.saturating_sub(period));
        // A counter that was never written reads as 0.
        if before >= 0 {
            self.write(&self.sql.first_counter, Args::default().with(name).with(0i64)).await?;
        }
        let args = Args::default().with(now).with(name).with(before);
        Ok(self.execute(&self.sql.removal.elect, args).await? > 0)
    }

    async fn put_session(&self, session: &SessionRecord) -> Result<(), MetaError> {
        let args = sid_args(session.sid).with(session.expire).with(&session.info[..]);
        self.write(&self.sql.removal.put_session, args).await
    }

    async fn delete_session(&self, sid: u64) -> Result<(), MetaError> {
        for statement in &self.sql.removal.delete_session {
            self.write(statement, sid_args(sid)).await?;
        }
        Ok(())
    }

    async fn insert_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError> {
        for ino in inos {
            self.write(&self.sql.removal.insert_sustained, sid_args(sid).ino(*ino)).await?;
        }
        Ok(())
    }

    async fn delete_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError> {
        for ino in inos {
            self.write(&self.sql.removal.delete_sustained, sid_args(sid).ino(*ino)).await?;
        }
        Ok(())
    }
}
