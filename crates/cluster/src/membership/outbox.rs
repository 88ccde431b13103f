//! What one step of the protocol produced.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use foca::{Notification, OwnedNotification, Timer};

use crate::identity::Identity;

/// First byte of every gossip packet; packets with another are ignored.
pub(super) const GOSSIP_FORMAT: u8 = 2;

/// Collects foca's output; emptied after every step, so it holds one step's worth.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) sends: VecDeque<(SocketAddr, Bytes)>,
    pub(super) timers: Vec<(Duration, Timer<Identity>)>,
    pub(super) notices: Vec<OwnedNotification<Identity>>,
}

impl foca::Runtime<Identity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.notices.push(notification.to_owned());
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        let mut packet = BytesMut::with_capacity(1 + data.len());
        packet.put_u8(GOSSIP_FORMAT);
        packet.put_slice(data);
        self.sends.push_back((to.0.addr, packet.freeze()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((after, event));
    }
}
