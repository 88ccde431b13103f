//! Bytes from a confused or hostile peer: neither a packet nor a view makes this process panic or believe in impossible members.

use std::time::Duration;

use bytes::BufMut;
use foca::{Codec as _, Header, Message, State};
use shoal_testkit::Rng;
use shoal_types::NodeId;

use super::outbox::GOSSIP_FORMAT;
use super::*;
use crate::view::View;

/// Mutations of each kind; with those of `shoal_wire` they make more than a million in every run.
const VIEWS: u64 = 30_000;
const PACKETS: u64 = 30_000;
const SEED: u64 = 0x5eed_0002;

fn member(byte: u8) -> Arc<Member> {
    let member = Member::new(NodeId([byte; 16]), &format!("node-{byte}"), ([10, 0, 0, byte], 7070).into());
    Arc::new(Member { zone: "a".into(), incarnation: 7, ..member })
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len().max(1) as u64) as usize;
        match rng.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.next_u64() as u8),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 127, 128, 254, 255][rng.below(6) as usize],
            _ => bytes.extend_from_slice(&rng.next_u64().to_le_bytes()[..rng.below(8) as usize]),
        }
    }
}

#[test]
fn mutated_views_are_refused_or_hold_possible_members() {
    println!("seed {SEED:x}");
    let mut rng = Rng::new(SEED);
    let good = View::new(0, vec![member(1), member(2)]).encode().to_vec();
    let mut read = 0;
    for _ in 0..VIEWS {
        let mut bytes = good.clone();
        mutate(&mut rng, &mut bytes);
        if let Ok(view) = View::decode(&bytes) {
            view.members.iter().for_each(|member| member.check().unwrap());
            read += 1;
        }
    }
    assert!(read > 0, "some mutations leave a view");
}

/// Packets of every kind of message, to `to`.
fn packets(to: &Arc<Member>) -> Vec<Vec<u8>> {
    let (from, other) = (Identity(member(2)), Identity(member(3)));
    let messages = [
        Message::Ping(1),
        Message::Ack(1),
        Message::PingReq { target: other.clone(), probe_number: 1 },
        Message::IndirectPing { origin: other.clone(), probe_number: 1 },
        Message::Announce,
        Message::Feed,
        Message::Gossip,
        Message::TurnUndead,
    ];
    let packet = |message| {
        let header = Header { src: from.clone(), src_incarnation: 0, dst: Identity(to.clone()), message };
        let mut bytes = vec![GOSSIP_FORMAT];
        Codec.encode_header(&header, &mut bytes).unwrap();
        bytes.put_u16(2);
        for (identity, state) in [(&from, State::Alive), (&other, State::Suspect)] {
            Codec.encode_member(&foca::Member::new(identity.clone(), 1, state), &mut bytes).unwrap();
        }
        bytes
    };
    messages.map(packet).into()
}

#[test]
fn mutated_gossip_never_panics_and_brings_no_impossible_member() {
    println!("seed {SEED:x}");
    let (mut rng, me, timing) = (Rng::new(SEED), member(1), Timing::default());
    let (good, mut refused) = (packets(&me), 0);
    let fresh = || {
        let damping = Damping::new(timing.flap_half_life, 0.0, Duration::ZERO);
        Membership::new(me.as_ref().clone(), &timing, damping, 1)
    };
    let mut membership = fresh();
    for round in 0..PACKETS {
        // A few at a time: what one packet brought in meets the next.
        if round % 50 == 0 {
            refused += membership.refused;
            membership = fresh();
        }
        let mut bytes = good[rng.below(good.len() as u64) as usize].clone();
        mutate(&mut rng, &mut bytes);
        membership.receive(Duration::from_millis(round % 50), &bytes);
        while let Some(event) = membership.events.pop() {
            if let Event::Up(member) | Event::Changed(member) | Event::Renewed(member) = event {
                member.check().unwrap();
            }
        }
    }
    assert!(refused > 0 && refused < PACKETS, "{refused} of {PACKETS}");
}
