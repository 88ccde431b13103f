//! One or more of every message.

use bytes::Bytes;
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class, NodeId, OriginId, Tier};
use shoal_wire::{GetHead, GetRequest, NodeStat, Request, Response, Status};

const ORIGIN: OriginId = OriginId(*b"0123456789abcdef");

pub fn whole() -> BlockKey {
    BlockKey::whole(ORIGIN, "vol/chunks/0/0/1_0_4")
}

pub fn part() -> BlockKey {
    BlockKey::new(ORIGIN, "b/é", BlockSpan::Part { etag: "\"e1\"".into(), offset: 4 << 20, len: 4 << 20 })
}

pub fn gets() -> Vec<GetRequest> {
    let whole = GetRequest {
        key: whole(),
        range: BlockRange::WHOLE,
        class: Class::Foreground,
        deadline_ms: 0,
        epoch: 0x0102_0304_0506_0708,
    };
    let part =
        GetRequest { key: part(), range: BlockRange::new(5, 6), class: Class::Background, deadline_ms: 1500, epoch: 0 };
    vec![whole, part]
}

pub fn heads() -> Vec<GetHead> {
    vec![GetHead::ok(Tier::Nvme, 4 << 20, BlockRange::new(16, 32)), GetHead::refusal(Status::NotFound, "no object `a`")]
}

pub fn requests() -> Vec<Request> {
    vec![
        Request::Has { keys: vec![whole(), part()] },
        Request::Warm { keys: vec![] },
        Request::Stat,
        Request::Watch,
        Request::View,
    ]
}

pub fn responses() -> Vec<Response> {
    vec![
        Response::Has { tiers: vec![Some(Tier::Ram), None, Some(Tier::Origin)] },
        Response::WarmProgress {
            done: 300,
            already: 1,
            fetched: 2,
            failed: 3,
            bytes: 1 << 40,
            last: true,
            first_error: "x".into(),
        },
        Response::Stat(stat()),
        Response::View(Bytes::from_static(b"view")),
        Response::Error { status: Status::Busy, message: "full".into() },
    ]
}

fn stat() -> NodeStat {
    NodeStat {
        id: NodeId([9; 16]),
        name: "n1".into(),
        addr: "10.0.0.1:7700".parse().unwrap(),
        version: "0.1.0".into(),
        uptime_s: 1,
        ram_used: 2,
        ram_limit: 3,
        nvme_used: 4,
        nvme_limit: 5,
        blocks: 6,
        evictions: 7,
        reads_by_tier: [8, 9, 10, 11],
        bytes_by_tier: [12, 13, 14, 15],
        origin_requests: 16,
        epoch: 17,
        members: 18,
        origins: vec![ORIGIN],
        errors: 19,
    }
}

/// The payload of a frame.
pub fn payload(frame: &[u8]) -> &[u8] {
    &frame[8..]
}
