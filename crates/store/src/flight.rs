//! One insert of a key at a time: the first leads, the others wait for what becomes of it.

use std::collections::HashMap;

use parking_lot::Mutex;
use shoal_types::BlockId;
use tokio::sync::watch;

/// Inserts under way.
#[derive(Debug, Default)]
pub(crate) struct Flying(Mutex<HashMap<BlockId, watch::Receiver<()>>>);

/// The right to insert a key; ends when dropped, whichever way the insert went.
#[derive(Debug)]
pub(crate) struct Lead<'a> {
    flying: &'a Flying,
    id: BlockId,
    /// Dropping it wakes those who wait.
    _end: watch::Sender<()>,
}

impl Flying {
    /// The lead over `id`, once nobody else has it. `Err` after waiting for somebody: look again whether there is anything to do.
    pub(crate) async fn lead(&self, id: BlockId) -> Result<Lead<'_>, Waited> {
        let mut other = {
            let mut flying = self.0.lock();
            match flying.get(&id) {
                Some(other) => other.clone(),
                None => {
                    let (end, other) = watch::channel(());
                    flying.insert(id, other);
                    return Ok(Lead { flying: self, id, _end: end });
                }
            }
        };
        // Nothing is ever sent: this returns when the leader is gone.
        let _ = other.changed().await;
        Err(Waited)
    }
}

/// Somebody else's insert of the key ended.
#[derive(Debug)]
pub(crate) struct Waited;

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.flying.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let flying = Flying::default();
        let id = BlockId([1; 16]);
        let lead = flying.lead(id).await.unwrap();
        let mut second = std::pin::pin!(flying.lead(id));
        let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        assert!(flying.lead(BlockId([2; 16])).await.is_ok(), "another key is free");
        drop(lead);
        assert!(second.await.is_err());
        assert!(flying.lead(id).await.is_ok());
    }
}
