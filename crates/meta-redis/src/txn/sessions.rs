//! Sessions.

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{Job, MetaError, Serial, SessionRecord, SessionTxn};

use super::Overlaid;
use crate::commit::number;
use crate::keys::{SESSION_INFOS, SESSIONS};
use crate::overlay::Cell;
use crate::records::{Space, collect};
use crate::view::{Care, View};

#[async_trait]
impl SessionTxn for Space<Overlaid> {
    async fn take_serial(&self, serial: Serial) -> Result<u64, MetaError> {
        let key = self.base().keys.serial(serial);
        let next = self.number(key.clone(), Care::Exact).await?.saturating_add(1);
        let taken = u64::try_from(next).map_err(|_| self.base().damaged(format!("{key} is impossible")))?;
        self.0.state().put(Cell::Value(key), number(next));
        Ok(taken)
    }

    async fn elect(&self, job: Job, now: i64, period: i64) -> Result<bool, MetaError> {
        let key = self.base().keys.job(job);
        let due = self.number(key.clone(), Care::Exact).await? <= now.saturating_sub(period);
        if due {
            self.0.state().put(Cell::Value(key), number(now));
        }
        Ok(due)
    }

    async fn put_session(&self, session: &SessionRecord) -> Result<(), MetaError> {
        let (mut state, keys) = (self.0.state(), &self.base().keys);
        state.rank(keys.single(SESSIONS), number(session.sid), Some(session.expire));
        state.put(Cell::Field(keys.single(SESSION_INFOS), number(session.sid)), session.info.clone());
        Ok(())
    }

    async fn delete_session(&self, sid: u64) -> Result<(), MetaError> {
        let keys = &self.base().keys;
        let (locked, own) = (keys.locked(sid), format!("{sid}_"));
        for lock in self.0.members(&locked).await? {
            let name = String::from_utf8_lossy(&lock).into_owned();
            let mut owners = Vec::new();
            self.0.scan(&name, Care::None, |owner, kind| collect(&mut owners, owner, kind)).await?;
            let mut state = self.0.state();
            let ours = owners.into_iter().filter(|(owner, _)| owner.starts_with(own.as_bytes()));
            ours.for_each(|(owner, _)| state.remove(Cell::Field(name.clone(), owner)));
        }
        let mut state = self.0.state();
        state.clear(locked);
        state.rank(keys.single(SESSIONS), number(sid), None);
        state.remove(Cell::Field(keys.single(SESSION_INFOS), number(sid)));
        Ok(())
    }

    async fn insert_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError> {
        let (mut state, key) = (self.0.state(), self.base().keys.sustained(sid));
        inos.iter().for_each(|ino| state.member(key.clone(), number(ino), true));
        Ok(())
    }

    async fn delete_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError> {
        let (mut state, key) = (self.0.state(), self.base().keys.sustained(sid));
        inos.iter().for_each(|ino| state.member(key.clone(), number(ino), false));
        Ok(())
    }
}
