//! The seam to a metadata database: typed record primitives.
//!
//! An engine stores and finds records; every rule about them (names, link counts, accounting) is in `ops`. Primitives
//! that write take many records at once, because a round trip or a statement for each would bound a bulk load. Ids,
//! reference counts and parents of hard links are stored differently by SQL, Redis and key-value engines (spec sections 8.3, 11, 12);
//! primitives carry the meaning, the engine its convention. Each area of the rules has a trait of its own.

mod accounting;
mod changelog;
mod data;
mod detached;
mod foreseen;
mod load;
mod locks;
mod namespace;
mod quotas;
mod records;
mod removal;
mod scan;
mod sessions;

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;

pub use accounting::{Accounting, AccountingTxn};
pub use changelog::{ChangeLogRecords, ChangeLogTxn, LoggedChange};
pub use data::DataTxn;
pub use detached::{DetachedRecords, DetachedTxn};
pub use foreseen::Foreseen;
pub use load::LoadTxn;
pub use locks::{LockHolder, LockRecords, LockTxn};
pub use namespace::NamespaceTxn;
pub use quotas::{QuotaRecords, QuotaTxn};
pub use records::Records;
pub use removal::{DeletedFile, OldDentry, RemovalRecords, RemovalTxn};
pub use scan::{ScanPage, ScanRecords};
pub use sessions::{Job, Serial, SessionRecord, SessionRecords, SessionTxn};

use crate::error::MetaError;
use crate::record::IdKind;

/// One write transaction: all of its writes or none. Dropping it undoes everything.
///
/// A write that gives nothing may be put off until something is asked for, or until the commit: a failure of it comes from there.
#[async_trait]
pub trait Txn:
    Records
    + NamespaceTxn
    + RemovalTxn
    + SessionTxn
    + DataTxn
    + AccountingTxn
    + LockTxn
    + DetachedTxn
    + QuotaTxn
    + ChangeLogTxn
    + LoadTxn
{
    /// Creates tables, indexes and first counters where they are missing; does nothing on a complete schema.
    async fn create_schema(&self) -> Result<(), MetaError>;
    /// Removes every record of the volume, and its tables: the database holds no volume afterwards. MySQL cannot undo it.
    async fn drop_schema(&self) -> Result<(), MetaError>;
    /// Replaces the setting.
    async fn put_setting(&self, json: &str) -> Result<(), MetaError>;
    /// Takes `n` ids that nobody else gets.
    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError>;
    /// Says what is read next, in this order: an engine asks a server for all of it at once. These reads give what they gave then, if
    /// nothing else is read or written before.
    async fn foresee(&self, _reads: &[Foreseen<'_>]) -> Result<(), MetaError> {
        Ok(())
    }
    /// Does the writes that were put off: what is wrong with one of them comes from here.
    async fn write_now(&self) -> Result<(), MetaError> {
        Ok(())
    }
    /// Makes the writes visible and durable. `Contended` leaves nothing written.
    async fn commit(self: Box<Self>) -> Result<(), MetaError>;
}

/// One metadata database.
#[async_trait]
pub trait Engine: Debug + Send + Sync {
    /// The database as messages name it: its URL without secrets.
    fn name(&self) -> &str;
    /// Reads outside any transaction.
    fn records(&self) -> &dyn Records;
    /// When counters and statistics are written.
    fn accounting(&self) -> Accounting;
    /// Begins a write transaction. `Denied` on an engine opened for reading.
    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError>;
    /// Waits until every commit so far outlives a loss of power. Servers decide that for each commit by their own settings.
    ///
    /// `Unavailable` if the disk refuses.
    async fn sync(&self) -> Result<(), MetaError>;
    /// Closes the database's connections.
    async fn close(&self);
}
