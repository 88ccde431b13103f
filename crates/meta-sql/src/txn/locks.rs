//! Locks.

use async_trait::async_trait;
use shoal_format::{Ino, LockMode, RangeLock};
use shoal_meta::{LockHolder, LockRecords, LockTxn, MetaError, NamespaceTxn};

use crate::args::Args;
use crate::driver::Driver;
use crate::failure::damaged;
use crate::link::{Link, TxnLink};
use crate::row::Columns;
use crate::session::{Session, or_empty};

/// A holder's row of an inode. Owners are any 64 bits, stored as the number that has the same ones.
fn row_args<'a>(ino: Ino, holder: LockHolder) -> Args<'a> {
    Args::default().ino(ino).id(holder.sid).with(holder.owner.cast_signed())
}

fn holder<D: Driver>(row: &Columns<'_, D>) -> Result<LockHolder, MetaError> {
    Ok(LockHolder { sid: row.number(0, "sid")?, owner: row.int(1)?.cast_unsigned() })
}

#[async_trait]
impl<L: Link> LockRecords for Session<L> {
    async fn flocks(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        or_empty(
            self.rows(&self.sql.locks.flocks, Args::default().ino(ino), |row| {
                let letter: u8 = row.number(2, "ltype")?;
                let mode = LockMode::from_letter(letter);
                let wrong = || damaged(&self.sql.at, &format!("a lock of inode {ino} has type {letter}"));
                Ok((holder(&row)?, mode.ok_or_else(wrong)?))
            })
            .await,
        )
    }

    async fn plocks(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        or_empty(
            self.rows(&self.sql.locks.plocks, Args::default().ino(ino), |row| {
                let locks = RangeLock::decode_list(&row.bytes(2)?);
                Ok((holder(&row)?, locks.map_err(|error| damaged(&self.sql.at, &error.to_string()))?))
            })
            .await,
        )
    }
}

#[async_trait]
impl<L: TxnLink> LockTxn for Session<L> {
    /// Whoever locks a file locks its row of attributes first, as real clients do: an absent row of locks cannot be locked.
    async fn flocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        self.attrs_locked(&[ino]).await?;
        self.flocks(ino).await
    }

    async fn plocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        self.attrs_locked(&[ino]).await?;
        self.plocks(ino).await
    }

    async fn put_flock(&self, ino: Ino, holder: LockHolder, mode: Option<LockMode>) -> Result<(), MetaError> {
        let args = row_args(ino, holder);
        match mode {
            Some(mode) => self.write(&self.sql.locks.put_flock, args.with(i64::from(mode.letter()))).await,
            None => self.write(&self.sql.locks.delete_flock, args).await,
        }
    }

    async fn put_plocks(&self, ino: Ino, holder: LockHolder, locks: &[RangeLock]) -> Result<(), MetaError> {
        let args = row_args(ino, holder);
        if locks.is_empty() {
            self.write(&self.sql.locks.delete_plocks, args).await
        } else {
            self.write(&self.sql.locks.put_plocks, args.with(RangeLock::encode_list(locks))).await
        }
    }
}
