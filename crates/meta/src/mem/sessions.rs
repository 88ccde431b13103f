//! Records of sessions.

use async_trait::async_trait;
use shoal_format::Ino;

use super::txn::MemTxn;
use super::view::View;
use crate::engine::{Job, Serial, SessionRecord, SessionRecords, SessionTxn};
use crate::error::MetaError;

#[async_trait]
impl<V: View> SessionRecords for V {
    async fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError> {
        self.read(|state| state.sessions.values().cloned().collect())
    }

    async fn expired_sessions(&self, before: i64, limit: usize) -> Result<Vec<u64>, MetaError> {
        self.read(|state| {
            let expired = state.sessions.values().filter(|session| session.expire < before);
            expired.map(|session| session.sid).take(limit).collect()
        })
    }

    async fn sustained(&self, sid: u64) -> Result<Vec<Ino>, MetaError> {
        self.read(|state| {
            let held = state.sustained.range((sid, Ino::NONE)..).take_while(|(holder, _)| *holder == sid);
            held.map(|(_, ino)| *ino).collect()
        })
    }
}

#[async_trait]
impl SessionTxn for MemTxn {
    async fn take_serial(&self, serial: Serial) -> Result<u64, MetaError> {
        let mut state = self.state.lock();
        let last = state.serials.entry(serial).or_default();
        *last += 1;
        Ok(*last)
    }

    async fn elect(&self, job: Job, now: i64, period: i64) -> Result<bool, MetaError> {
        let mut state = self.state.lock();
        let last = state.jobs.entry(job).or_default();
        let due = *last <= now.saturating_sub(period);
        if due {
            *last = now;
        }
        Ok(due)
    }

    async fn put_session(&self, session: &SessionRecord) -> Result<(), MetaError> {
        self.state.lock().sessions.insert(session.sid, session.clone());
        Ok(())
    }

    async fn delete_session(&self, sid: u64) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        state.sessions.remove(&sid);
        state.flocks.retain(|(_, holder), _| holder.sid != sid);
        state.plocks.retain(|(_, holder), _| holder.sid != sid);
        Ok(())
    }

    async fn insert_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError> {
        self.state.lock().sustained.extend(inos.iter().map(|ino| (sid, *ino)));
        Ok(())
    }

    async fn delete_sustained(&self, sid: u64, inos: &[Ino]) -> Result<(), MetaError> {
        self.state.lock().sustained.retain(|(holder, ino)| *holder != sid || !inos.contains(ino));
        Ok(())
    }
}
