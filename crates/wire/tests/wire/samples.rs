//! One or more of every message.

use bytes::Bytes;
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class, NodeId, OriginId, Tier};
use shoal_wire::{GetHead, GetMany, GetRequest, NodeStat, Request, Response, Status};

const ORIGIN: OriginId = OriginId(*b"0123456789abcdef");

pub fn whole() -> BlockKey {
    BlockKey::whole(ORIGIN, "vol/chunks/0/0/1_0_4")
}

pub fn part() -> BlockKey {
    BlockKey::new(ORIGIN, "b/é", BlockSpan::Part { etag: "\"e1\"".into(), offset: 4 << 20, len: 4 << 20 })
}

pub fn gets() -> Vec<GetRequest> {
    let whole = GetRequest { epoch: 0x0102_0304_0506_0708, ..GetRequest::new(whole(), BlockRange::WHOLE) };
    let part = GetRequest {
        class: Class::Background,
        deadline_ms: 1500,
        spread: 8,
        local: true,
        ..GetRequest::new(part(), BlockRange::new(5, 6))
    };
    vec![whole, part]
}

pub fn batches() -> Vec<GetMany> {
    let items = vec![(whole(), BlockRange::new(0, 65_536)), (part(), BlockRange::WHOLE)];
    vec![
        GetMany::new(Vec::new()),
        GetMany { class: Class::WarmUp, deadline_ms: 1500, epoch: 7, local: true, ..GetMany::new(items) },
    ]
}

pub fn heads() -> Vec<GetHead> {
    vec![
        GetHead { spread: 3, ..GetHead::ok(Tier::Nvme, 4 << 20, BlockRange::new(16, 32)) },
        GetHead::refusal(Status::NotFound, "no object `a`"),
        GetHead { retry_ms: 250, ..GetHead::refusal(Status::Busy, "full") },
    ]
}

pub fn requests() -> Vec<Request> {
    vec![
        Request::Has { keys: vec![whole(), part()] },
        Request::Warm { keys: vec![], from: None },
        Request::Warm { keys: vec![whole()], from: Some("10.0.0.2:7100".parse().unwrap()) },
        Request::Drain,
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
        Response::DrainProgress {
            total: 5,
            done: 4,
            moved: 3,
            failed: 1,
            bytes: 1 << 20,
            last: false,
            first_error: "y".into(),
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
        zone: "z".into(),
        weight: 100,
        leaving: true,
    }
}

/// The payload of a frame.
pub fn payload(frame: &[u8]) -> &[u8] {
    &frame[8..]
}
