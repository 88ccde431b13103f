//! Periodic work that one client does for all (spec section 26).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use shoal_format::{Ino, parse_trash_hour};
use shoal_runtime::{clock, rng, task};
use tokio::sync::mpsc;

use super::deletion::delete_queued;
use super::{Inner, Session, now};
use crate::engine::Job;
use crate::error::{MetaError, Refusal};
use crate::ops::{DropSustained, Elect, ForgetSession, Removal, RemoveFromTrash, TrimChanges};
use crate::slices::SliceStore;

/// Between two runs of the slower jobs.
const HOUR: Duration = Duration::from_secs(3600);
/// Between two looks at the change log; as with real clients.
const FIVE_MINUTES: Duration = Duration::from_secs(300);
/// A job is begun by whoever comes first after this share of its period.
const ELECTION_SHARE: f64 = 0.9;
/// Removed files whose data waits to be deleted by this client; what does not fit is deleted an hour later.
const QUEUED_MAX: usize = 10_000;
/// Sessions cleaned up in one run.
const SESSIONS_MAX: usize = 1000;
/// Entries read at once.
const PAGE: usize = 1000;
/// Most files whose data one run deletes, and the longest it takes; those of real clients.
const FILES_MAX: usize = 600_000;
const FILES_TIME_MAX: Duration = Duration::from_secs(50 * 60);
/// How long removed files wait for whoever removed them, in seconds.
const DELETED_AGE_SECS: i64 = 3600;
const DAY_SECS: i64 = 86_400;
/// Directories emptied at once where whole trees lie in the trash.
const DIRS_AT_ONCE: usize = 4;
/// What is in an hourly directory may be up to an hour younger than its name, and clocks differ.
const TRASH_SLACK_SECS: i64 = 2 * 3600;

impl Session {
    /// Lets the session delete data, through `slices`, of what it removes. Once; later calls do nothing, and give false.
    pub fn start_deletions(&self, slices: Arc<dyn SliceStore>) -> bool {
        let (sender, queue) = mpsc::channel(QUEUED_MAX);
        if self.0.removed.slices.set(slices).is_err() || self.0.removed.deletions.set(sender).is_err() {
            return false;
        }
        let deletions = task::spawn("meta-deletions", delete_queued(Arc::downgrade(&self.0), queue));
        self.0.tasks.lock().push(deletions);
        true
    }

    /// As [`Session::start_deletions`], and lets the session share the volume's periodic work.
    pub fn start_jobs(&self, slices: Arc<dyn SliceStore>) {
        if !self.start_deletions(slices) {
            return;
        }
        let mut tasks = self.0.tasks.lock();
        for job in Job::ALL {
            tasks.push(task::spawn("meta-job", repeat(Arc::downgrade(&self.0), job, self.period(job))));
        }
    }

    /// Does `job` now if no client did within its period; true if so.
    pub(crate) async fn run_job(&self, job: Job) -> Result<bool, MetaError> {
        if job == Job::ChangeLog && !self.settings().change_log {
            return Ok(false);
        }
        let period = (self.period(job).as_secs_f64() * ELECTION_SHARE) as i64;
        if !self.change(&Elect { job, period }).await? {
            return Ok(false);
        }
        match job {
            Job::StaleSessions => self.clean_sessions().await?,
            Job::DeletedFiles => self.delete_old_files().await?,
            Job::Slices => drop(self.delete_dead_slices().await?),
            Job::Trash => self.clean_trash().await?,
            Job::ChangeLog => while self.change(&TrimChanges).await? {},
        }
        Ok(true)
    }

    fn period(&self, job: Job) -> Duration {
        match job {
            Job::StaleSessions => self.0.heartbeat,
            Job::ChangeLog => FIVE_MINUTES,
            Job::DeletedFiles | Job::Slices | Job::Trash => HOUR,
        }
    }

    /// Removes what dead clients left. Never this one, however late its own heartbeat is.
    async fn clean_sessions(&self) -> Result<(), MetaError> {
        let records = self.engine().records();
        for sid in records.expired_sessions(now().secs, SESSIONS_MAX).await? {
            if sid == self.sid() {
                continue;
            }
            for ino in records.sustained(sid).await? {
                let file = self.change(&DropSustained { sid, ino }).await?;
                file.into_iter().for_each(|file| self.delete_soon(file));
            }
            if self.change(&ForgetSession { sid }).await? {
                tracing::info!(sid, "removed the session of a client that is gone");
            }
        }
        Ok(())
    }

    /// Deletes the data of files that were removed long ago.
    async fn delete_old_files(&self) -> Result<(), MetaError> {
        let (start, before) = (clock::now(), now().secs - DELETED_AGE_SECS);
        let mut count = 0;
        while count < FILES_MAX && start.elapsed() < FILES_TIME_MAX {
            let page = self.engine().records().deleted_files(before, PAGE).await?;
            for file in &page {
                self.delete_file_data(*file).await?;
            }
            count += page.len();
            if page.len() < PAGE {
                break;
            }
        }
        Ok(())
    }

    /// Empties the trash of what is older than the volume keeps, oldest first, and drops slices that waited as long.
    pub(super) async fn clean_trash(&self) -> Result<(), MetaError> {
        let kept = self.settings().trash_days.max(0).saturating_mul(DAY_SECS);
        let edge = now().secs.saturating_sub(kept);
        let mut hours = Vec::new();
        let mut after = Bytes::new();
        loop {
            let page = self.engine().records().entries(Ino::TRASH, &after, PAGE).await?;
            hours.extend(page.iter().map(|entry| (entry.name.clone(), entry.ino)));
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.name.clone(),
                _ => break,
            }
        }
        // Names sort by time.
        for (name, hour) in hours {
            match parse_trash_hour(&name) {
                Some(begin) if begin < edge - TRASH_SLACK_SECS => self.remove_hour(&name, hour).await?,
                Some(_) | None => {}
            }
        }
        self.delete_delayed(edge).await.map(drop)
    }

    async fn remove_hour(&self, name: &Bytes, hour: Ino) -> Result<(), MetaError> {
        let mut after = Bytes::new();
        loop {
            let page = self.engine().records().entries(hour, &after, PAGE).await?;
            for entry in &page {
                match self.remove_from_trash(hour, &entry.name).await {
                    // A removed tree that was put together again.
                    Err(MetaError::Refused { why: Refusal::NotEmpty, .. }) => {
                        self.empty(entry.ino, DIRS_AT_ONCE).await?;
                        self.remove_from_trash(hour, &entry.name).await?;
                    }
                    done => done?,
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.name.clone(),
                _ => break,
            }
        }
        self.remove_from_trash(Ino::TRASH, name).await
    }

    pub(super) async fn remove_from_trash(&self, parent: Ino, name: &[u8]) -> Result<(), MetaError> {
        let is_open = |ino| self.is_open(ino);
        let removal = Removal { trash: None, sid: self.sid(), is_open: &is_open };
        match self.change(&RemoveFromTrash { parent, name, removal }).await {
            Ok((ino, remains)) => {
                self.follow_up(ino, remains).await;
                Ok(())
            }
            // Another client, or root by hand, was faster.
            Err(MetaError::NoEntry { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Does `job` again and again until the session is gone. What fails is done again next time.
async fn repeat(session: Weak<Inner>, job: Job, period: Duration) {
    loop {
        clock::sleep(rng::jitter(period, 0.1)).await;
        let Some(session) = session.upgrade().map(Session) else { return };
        if let Err(error) = session.run_job(job).await {
            tracing::warn!(?job, %error, "periodic work failed; some client tries again");
        }
    }
}
