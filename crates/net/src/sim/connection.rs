//! One end of a simulated connection, as its process holds it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{ConnectionError, ConnectionStats, SendDatagramError, VarInt};

use super::core::{Content, Core, CoreState, EndOf, Kind, SMALL};
use super::stream::{Hold, SimRecv, SimSend};
use super::wire::Care;
use crate::identity::PeerIdentity;

/// Largest datagram: what fits a packet of 1452 bytes.
const DATAGRAM_MAX: usize = 1400;

/// One end of a connection; clones share it. It closes when the last clone and the last of its streams are gone.
#[derive(Debug, Clone)]
pub(crate) struct SimConnection(Arc<Hold>);

impl SimConnection {
    pub(super) fn new(core: Arc<Core>, end: EndOf) -> SimConnection {
        SimConnection(Arc::new(Hold { core, end }))
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    fn end(&self) -> EndOf {
        self.0.end
    }

    /// Who made the connection; nobody here asks who took it.
    pub(crate) fn peer_identity(&self) -> Option<PeerIdentity> {
        (self.end() == 1).then(|| self.core().identity.clone())
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.core().addrs[1 - self.end()]
    }

    pub(crate) fn stable_id(&self) -> usize {
        self.core().number as usize * 2 + self.end()
    }

    pub(crate) fn close(&self, code: u32, reason: &[u8]) {
        self.core().close(self.end(), VarInt::from_u32(code), reason);
    }

    pub(crate) fn close_reason(&self) -> Option<ConnectionError> {
        self.core().state.lock().ends[self.end()].closed.clone()
    }

    pub(crate) async fn closed(&self) -> ConnectionError {
        let end = self.end();
        self.core().when(end, |state| state.ends[end].closed.clone()).await
    }

    /// Only the packets heard mean something.
    pub(crate) fn stats(&self) -> ConnectionStats {
        let mut stats = ConnectionStats::default();
        stats.udp_rx.datagrams = self.core().state.lock().ends[self.end()].heard;
        stats
    }

    pub(crate) fn open_bi(&self) -> Result<(SimSend, SimRecv), ConnectionError> {
        let number = self.open(false)?;
        Ok((SimSend::new(self.0.clone(), number, false), SimRecv::new(self.0.clone(), number)))
    }

    pub(crate) fn open_uni(&self) -> Result<SimSend, ConnectionError> {
        let number = self.open(true)?;
        Ok(SimSend::new(self.0.clone(), number, true))
    }

    fn open(&self, one_way: bool) -> Result<u64, ConnectionError> {
        match self.close_reason() {
            Some(error) => Err(error),
            None => Ok(self.core().open(one_way)),
        }
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SimSend, SimRecv), ConnectionError> {
        let end = self.end();
        let number = self.take(|state| state.ends[end].bi.pop_front()).await?;
        Ok((SimSend::new(self.0.clone(), number, false), SimRecv::new(self.0.clone(), number)))
    }

    pub(crate) async fn accept_uni(&self) -> Result<SimRecv, ConnectionError> {
        let end = self.end();
        let number = self.take(|state| state.ends[end].uni.pop_front()).await?;
        Ok(SimRecv::new(self.0.clone(), number))
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        let end = self.end();
        self.take(|state| Core::next_datagram(state, end)).await
    }

    pub(crate) fn max_datagram_size(&self) -> Option<usize> {
        Some(DATAGRAM_MAX)
    }

    pub(crate) fn send_datagram(&self, data: Bytes) -> Result<(), SendDatagramError> {
        if data.len() > DATAGRAM_MAX {
            return Err(SendDatagramError::TooLarge);
        }
        if let Some(error) = self.close_reason() {
            return Err(SendDatagramError::ConnectionLost(error));
        }
        let (end, parts) = (self.end(), std::slice::from_ref(&data));
        let content = Content { kind: Kind::Datagram, parts, padding: SMALL, gossip: !data.is_empty() };
        let taken = data.clone();
        self.core().send(end, Care::None, content, move |core| core.take_datagram(1 - end, taken));
        Ok(())
    }

    /// What came, else why nothing comes any more.
    async fn take<T>(&self, mut next: impl FnMut(&mut CoreState) -> Option<T>) -> Result<T, ConnectionError> {
        let end = self.end();
        self.core()
            .when(end, |state| match next(state) {
                Some(came) => Some(Ok(came)),
                None => state.ends[end].closed.clone().map(Err),
            })
            .await
    }
}
