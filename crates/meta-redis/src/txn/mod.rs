//! Writes, in one transaction: remembered until it commits.

mod accounting;
mod data;
mod load;
mod namespace;
mod removal;
mod seen;
mod sessions;

use std::ops::Range;

use async_trait::async_trait;
use redis::Pipeline;
use shoal_format::Ino;
use shoal_meta::{IdKind, MetaError, Txn};

pub(crate) use self::seen::Overlaid;
use crate::commit::number;
use crate::keys::SETTING;
use crate::overlay::Cell;
use crate::records::{Space, next_id};
use crate::view::{Base, Care, View};

#[async_trait]
impl Txn for Space<Overlaid> {
    /// Keys come with what they hold.
    async fn create_schema(&self) -> Result<(), MetaError> {
        Ok(())
    }

    /// The commit removes what makes it a volume. All else, of which there may be millions of keys, goes after it, in steps.
    async fn drop_schema(&self) -> Result<(), MetaError> {
        let keys = &self.base().keys;
        let mut state = self.0.state();
        let first = [keys.single(SETTING), keys.attr(Ino::ROOT), keys.attr(Ino::TRASH)];
        first.into_iter().for_each(|key| state.remove(Cell::Value(key)));
        state.drop_rest();
        Ok(())
    }

    async fn put_setting(&self, json: &str) -> Result<(), MetaError> {
        let key = self.base().keys.single(SETTING);
        self.0.state().put(Cell::Value(key), json.as_bytes().to_vec());
        Ok(())
    }

    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError> {
        let keys = [self.base().keys.last_id(kind), self.base().keys.single(SETTING)];
        let found = self.0.strings(&keys, Care::Exact).await?;
        let [last, Some(_)] = &found[..] else {
            return Err(MetaError::NoVolume { at: self.base().at().to_owned() });
        };
        let last = last.as_ref().map_or(Ok(0), |last| self.base().number(&keys[0], last))?;
        let first = next_id(kind, last);
        let end = first.checked_add(n).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or_else(|| self.base().damaged(format!("{} is impossible", keys[0])))?;
        self.0.state().put(Cell::Value(keys[0].clone()), number(end - 1));
        Ok(first..end)
    }

    async fn commit(self: Box<Self>) -> Result<(), MetaError> {
        let Space(seen) = *self;
        let (commit, meaning) = seen.state().encode();
        if commit.writes_nothing() {
            return Ok(());
        }
        let base: &Base = seen.base();
        if !seen.was_answered() {
            // A read finds out that the connection is gone, and gets another one; a write would not know what became of it.
            seen.ask::<()>(Pipeline::new().cmd("PING").ignore()).await?;
        }
        let failed: usize = base.server.write(seen.slot(), &commit.command()).await?;
        match failed.checked_sub(1).map(|check| meaning.get(check).cloned().flatten()) {
            None if seen.state().drops_rest() => seen.drop_keys().await,
            None => Ok(()),
            Some(Some(new)) => Err(new.taken()),
            Some(None) => Err(MetaError::Contended { at: base.at().to_owned() }),
        }
    }
}
