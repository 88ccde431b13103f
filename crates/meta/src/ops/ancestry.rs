//! Moves of directories below others must not close a circle.

use shoal_format::Ino;

use super::usage::with_ancestors;
use crate::engine::{Records, Txn};
use crate::error::MetaError;

/// Lets moves of directories between directories wait for each other: two clients that each move one directory below the
/// other's would make a cycle that neither can see. They wait on the row of the trash root, which nothing else changes, or of the
/// root where there is no trash. Before any other lock of the move.
pub(crate) async fn serialize_dir_moves(txn: &dyn Txn) -> Result<(), MetaError> {
    if txn.attrs_locked(&[Ino::TRASH]).await?.iter().all(Option::is_none) {
        txn.attrs_locked(&[Ino::ROOT]).await?;
    }
    Ok(())
}

/// Refuses to move directory `moved` into `into` if that lies below it.
pub(crate) async fn refuse_cycle(records: &dyn Records, moved: Ino, into: Ino) -> Result<(), MetaError> {
    if with_ancestors(records, into).await?.contains(&moved) {
        return Err(MetaError::invalid(format!("directory {moved} cannot move to {into}, which lies below it")));
    }
    Ok(())
}
