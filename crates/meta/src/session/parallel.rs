//! Many jobs, some at once: what walks a tree and changes it.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::error::MetaError;

/// Does `first` and every job that a job gives, `at_once` of them at a time; those given last come first, so that a tree is gone
/// through downwards. After an error no job is begun; the first error is given when those under way have ended.
pub(super) async fn run_jobs<J, F, Fut>(first: Vec<J>, at_once: usize, work: F) -> Result<(), MetaError>
where
    F: Fn(J) -> Fut,
    Fut: Future<Output = Result<Vec<J>, MetaError>>,
{
    let (mut waiting, mut running, mut failed) = (first, FuturesUnordered::new(), None);
    loop {
        while failed.is_none()
            && running.len() < at_once.max(1)
            && let Some(job) = waiting.pop()
        {
            running.push(work(job));
        }
        match running.next().await {
            None => return failed.map_or(Ok(()), Err),
            Some(Ok(more)) => waiting.extend(more),
            Some(Err(error)) => {
                failed.get_or_insert(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn every_job_is_done_and_no_more_than_asked_for_at_once() {
        let (done, running, most) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let work = |depth: u32| {
            let (done, running, most) = (&done, &running, &most);
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                Ok(vec![depth.saturating_sub(1); if depth > 0 { 3 } else { 0 }])
            }
        };
        run_jobs(vec![3], 4, work).await.unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1 + 3 + 9 + 27);
        assert_eq!(most.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn after_an_error_nothing_is_begun() {
        let done = AtomicU32::new(0);
        let work = |job: u32| {
            done.fetch_add(1, Ordering::Relaxed);
            async move { if job == 3 { Err(MetaError::invalid("three")) } else { Ok(Vec::new()) } }
        };
        let error = run_jobs(vec![1, 2, 3, 4], 1, work).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), done.load(Ordering::Relaxed)), ("three", 2));
    }
}
