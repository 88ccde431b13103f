//! A member as the gossip protocol names it, and the bytes it gossips.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Header, Message, PostcardCodec};
use serde::{Deserialize, Serialize};
use shoal_types::NodeId;

use crate::error::ClusterError;
use crate::member::Member;

/// One life of a node. Equal only if everything about it is; lives of one node id compete by incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity(pub(crate) Arc<Member>);

impl foca::Identity for Identity {
    type Addr = NodeId;

    /// Never: a node that was declared dead rejoins through [`crate::membership::Membership`], which knows the incarnations
    /// seen so far, can wait, and can decide not to because it is leaving.
    fn renew(&self) -> Option<Identity> {
        None
    }

    fn addr(&self) -> NodeId {
        self.0.id
    }

    fn win_addr_conflict(&self, adversary: &Identity) -> bool {
        // The rest of the fields only decides between two processes that share an id and a start time: any order will do
        // that all nodes share.
        let rank = |id: &Identity| {
            let member = &id.0;
            let flags = (member.life, member.leaving, member.damped);
            let texts = (member.name.clone(), member.zone.clone());
            (member.incarnation, member.addr, member.weight, member.capacity, flags, texts)
        };
        rank(self) > rank(adversary)
    }
}

/// Postcard, with every identity checked at the door.
pub(crate) struct Codec;

/// A gossip packet that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("gossip packet is malformed")]
    Malformed(#[from] postcard::Error),
    #[error("gossip packet names an impossible node")]
    BadMember(#[from] ClusterError),
}

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        Ok(PostcardCodec.encode_header(header, buf)?)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let header: Header<Identity> = PostcardCodec.decode_header(buf)?;
        header.src.0.check()?;
        header.dst.0.check()?;
        match &header.message {
            Message::PingReq { target: other, .. }
            | Message::IndirectPing { origin: other, .. }
            | Message::IndirectAck { target: other, .. }
            | Message::ForwardedAck { origin: other, .. } => other.0.check()?,
            Message::Ping(_)
            | Message::Ack(_)
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {}
        }
        Ok(header)
    }

    fn encode_member(&mut self, member: &foca::Member<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        Ok(PostcardCodec.encode_member(member, buf)?)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<foca::Member<Identity>, CodecError> {
        let member: foca::Member<Identity> = PostcardCodec.decode_member(buf)?;
        member.id().0.check()?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    fn identity(incarnation: u64, port: u16) -> Identity {
        let member = Member::new(NodeId([1; 16]), "n", ([10, 0, 0, 1], port).into());
        Identity(Arc::new(Member { incarnation, ..member }))
    }

    #[test]
    fn exactly_one_of_two_lives_wins() {
        let lives = [identity(1, 1), identity(1, 2), identity(2, 1)];
        for (i, a) in lives.iter().enumerate() {
            assert!(!a.win_addr_conflict(a));
            for b in &lives[i + 1..] {
                assert!(b.win_addr_conflict(a) && !a.win_addr_conflict(b));
            }
        }
    }
}
