//! The bytes every version 2 process sends. A change here is a new version.

use std::fmt::Write as _;

use shoal_types::{BlockKey, BlockRange, BlockSpan, OriginId};
use shoal_wire::{
    FrameHeader, GetHead, GetMany, GetRequest, MAX_CONTROL_BYTES, MAX_ETAG_BYTES, MAX_ITEMS, MAX_KEYS, MAX_MANY_BYTES,
    MAX_MESSAGE_BYTES, MAX_OBJECT_BYTES, Request, Response, Status, WireError, batches,
};

use crate::samples;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn check(frames: Vec<Vec<u8>>, golden: &[&str]) {
    let frames: Vec<String> = frames.iter().map(|frame| hex(frame)).collect();
    assert_eq!(frames, golden);
}

#[test]
fn get_requests_are_pinned() {
    let frames = samples::gets().iter().map(|message| message.encode().unwrap().to_vec()).collect();
    check(frames, GETS);
}

#[test]
fn batched_gets_are_pinned() {
    let frames = samples::batches().iter().map(|message| message.encode().unwrap().to_vec()).collect();
    check(frames, BATCHES);
}

#[test]
fn heads_are_pinned() {
    let frames = samples::heads().iter().map(|message| message.encode().unwrap().to_vec()).collect();
    check(frames, HEADS);
}

#[test]
fn control_requests_are_pinned() {
    let frames = samples::requests().iter().map(|message| message.encode().unwrap().to_vec()).collect();
    check(frames, REQUESTS);
}

#[test]
fn control_responses_are_pinned() {
    let frames = samples::responses().iter().map(|message| message.encode().unwrap().to_vec()).collect();
    check(frames, RESPONSES);
}

#[test]
fn every_message_survives_its_bytes() {
    for message in samples::gets() {
        let frame = message.encode().unwrap();
        let decoded = GetRequest::decode(samples::payload(&frame)).unwrap();
        assert_eq!(decoded, message);
        // Keys compare by their id only.
        assert_eq!(decoded.key.object(), message.key.object());
        assert_eq!(decoded.key.span(), message.key.span());
    }
    for message in samples::batches() {
        assert_eq!(GetMany::decode(samples::payload(&message.encode().unwrap())), Ok(message));
    }
    for message in samples::heads() {
        assert_eq!(GetHead::decode(samples::payload(&message.encode().unwrap())), Ok(message));
    }
    for message in samples::requests() {
        assert_eq!(Request::decode(samples::payload(&message.encode().unwrap())), Ok(message));
    }
    for message in samples::responses() {
        assert_eq!(Response::decode(samples::payload(&message.encode().unwrap())), Ok(message));
    }
}

#[test]
fn headers_tell_the_length_of_their_payload() {
    for message in samples::responses() {
        let frame = message.encode().unwrap();
        let header = FrameHeader::decode(frame[..8].try_into().unwrap()).unwrap();
        assert_eq!(header.len as usize, frame.len() - 8);
    }
}

fn object(len: usize) -> BlockKey {
    BlockKey::whole(OriginId([1; 16]), &"k".repeat(len))
}

#[test]
fn texts_at_their_bound_pass_and_over_it_are_invalid() {
    let mut get = samples::gets().remove(0);
    let at_bound = BlockSpan::Part { etag: "e".repeat(MAX_ETAG_BYTES), offset: u64::MAX, len: 1 };
    get.key = BlockKey::new(OriginId([1; 16]), &"k".repeat(MAX_OBJECT_BYTES), at_bound);
    let frame = get.encode().unwrap();
    assert_eq!(GetRequest::decode(samples::payload(&frame)).unwrap(), get);
    let over = BlockSpan::Part { etag: "e".repeat(MAX_ETAG_BYTES + 1), offset: 0, len: 1 };
    for key in [object(MAX_OBJECT_BYTES + 1), BlockKey::new(OriginId([1; 16]), "k", over)] {
        get.key = key.clone();
        assert!(matches!(get.encode(), Err(WireError::TooLarge { .. })));
        assert!(matches!(Request::Has { keys: vec![key] }.encode(), Err(WireError::TooLarge { .. })));
    }
}

#[test]
fn too_many_keys_are_refused_by_both_sides() {
    let keys = vec![object(10); MAX_KEYS + 1];
    assert!(matches!(Request::Warm { keys, from: None }.encode(), Err(WireError::TooLarge { .. })));
    let mut bytes =
        samples::payload(&Request::Warm { keys: vec![object(1); MAX_KEYS], from: None }.encode().unwrap()).to_vec();
    assert!(Request::decode(&bytes).is_ok());
    // One more key: raise the count (a two-byte varint behind the variant) and repeat the last key; `from` stays last.
    assert_eq!(bytes[1..3], [0x80, 0x20]);
    bytes[1] = 0x81;
    let from = bytes.pop().unwrap();
    let key = bytes[bytes.len() - 19..].to_vec();
    bytes.extend_from_slice(&key);
    bytes.push(from);
    assert!(matches!(Request::decode(&bytes), Err(WireError::Malformed { .. })));
}

#[test]
fn a_batch_over_its_bounds_is_refused_by_both_sides() {
    let many = |count, len| GetMany::new(vec![(object(1), BlockRange::new(0, len)); count]);
    let at_bound = many(MAX_ITEMS, (MAX_MANY_BYTES / MAX_ITEMS as u64) as u32);
    assert_eq!(at_bound.wanted(), MAX_MANY_BYTES);
    let mut bytes = samples::payload(&at_bound.encode().unwrap()).to_vec();
    assert_eq!(GetMany::decode(&bytes), Ok(at_bound));
    // One byte more of the first item.
    bytes[23] += 1;
    assert!(matches!(GetMany::decode(&bytes), Err(WireError::TooLarge { .. })));
    for over in [many(MAX_ITEMS + 1, 1), many(1, MAX_MANY_BYTES as u32 + 1), many(1, u32::MAX)] {
        assert!(matches!(over.encode(), Err(WireError::TooLarge { .. })), "{}", over.items.len());
    }
    // The longest keys fit a frame.
    let span = BlockSpan::Part { etag: "e".repeat(MAX_ETAG_BYTES), offset: u64::MAX, len: 1 };
    let longest = BlockKey::new(OriginId([1; 16]), &"k".repeat(MAX_OBJECT_BYTES), span);
    let many = GetMany::new(vec![(longest, BlockRange::WHOLE); MAX_ITEMS]);
    assert_eq!(GetMany::decode(samples::payload(&many.encode().unwrap())), Ok(many));
}

#[test]
fn batches_keep_order_and_fit_a_request() {
    let keys: Vec<BlockKey> = (0..10_000).map(|i| object(1 + (i * 7) % MAX_OBJECT_BYTES)).collect();
    let batched: Vec<Vec<BlockKey>> = batches(keys.clone()).collect();
    for batch in &batched {
        let frame = Request::Warm { keys: batch.clone(), from: None }.encode().unwrap();
        assert!(batch.len() <= MAX_KEYS && frame.len() <= MAX_CONTROL_BYTES as usize);
    }
    assert!(batched.len() < 6, "{} batches", batched.len());
    assert_eq!(batched.concat(), keys);
    assert_eq!(batches(vec![object(1); MAX_KEYS + 1]).map(|batch| batch.len()).collect::<Vec<_>>(), [MAX_KEYS, 1]);
    assert_eq!(batches(vec![]).count(), 0);
}

#[test]
fn long_sentences_are_cut_at_a_character() {
    let head = GetHead::refusal(Status::Internal, "é".repeat(MAX_MESSAGE_BYTES));
    let decoded = GetHead::decode(samples::payload(&head.encode().unwrap())).unwrap();
    assert_eq!(decoded.message, "é".repeat(MAX_MESSAGE_BYTES / 2));
}

#[test]
fn heads_that_promise_impossible_bytes_are_refused() {
    let good = samples::heads().remove(0).encode().unwrap().to_vec();
    let mutate = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[8 + at..8 + at + bytes.len()].copy_from_slice(bytes);
        GetHead::decode(samples::payload(&frame))
    };
    assert!(mutate(0, &[]).is_ok());
    assert!(mutate(0, &[Status::Busy as u8]).is_err(), "bytes after a refusal");
    assert!(mutate(13, &u32::MAX.to_le_bytes()).is_err(), "end past the block");
    assert!(mutate(9, &100u32.to_le_bytes()).is_err(), "start past the end");
    assert!(mutate(5, &u32::MAX.to_le_bytes()).is_err(), "a block over the bound");
}

#[test]
fn a_view_over_the_bound_is_not_sent() {
    let view = Response::View(vec![0; MAX_CONTROL_BYTES as usize].into());
    assert!(matches!(view.encode(), Err(WireError::TooLarge { .. })));
}

const GETS: &[&str] = &[
    "010200003d00000000000000000000080706050403020100000000ffffffff\
     303132333435363738396162636465661400766f6c2f6368756e6b732f302f302f315f305f34",
    "010200003f000000030308dc0500000000000000000000050000000b000000\
     303132333435363738396162636465660400622fc3a9000040000000000000004000040022653122",
];
const BATCHES: &[&str] = &[
    "0502000012000000000000000000000000000000000000000000",
    "050200007200000002020000dc05000007000000000000000200\
     000000000000000100303132333435363738396162636465661400766f6c2f6368756e6b732f302f302f315f305f34\
     0100000000ffffffff303132333435363738396162636465660400622fc3a9000040000000000000004000040022653122",
];
const HEADS: &[&str] = &[
    "020200001300000000010300000000400010000000300000000000",
    "020200002000000001030000000000000000000000000000000d006e6f206f626a65637420606160",
    "0202000017000000030300fa00000000000000000000000000040066756c6c",
];
const REQUESTS: &[&str] = &[
    "030200004b0000000002\
     3031323334353637383961626364656614766f6c2f6368756e6b732f302f302f315f305f3400\
     3031323334353637383961626364656604622fc3a90180808002808080020422653122",
    "0302000003000000010000",
    "03020000300000000101\
     3031323334353637383961626364656614766f6c2f6368756e6b732f302f302f315f305f340001000a000002bc37",
    "030200000100000002",
    "030200000100000003",
    "030200000100000004",
    "030200000100000005",
];
const RESPONSES: &[&str] = &[
    "0402000005000000000300ff03",
    "040200000f00000001ac02010203808080808020010178",
    "040200000b0000000205040301808040000179",
    "04020000490000000309090909090909090909090909090909026e31000a000001943c05302e312e30\
     0102030405060708090a0b0c0d0e0f101112013031323334353637383961626364656613017a6401",
    "0402000006000000040476696577",
    "040200000700000005030466756c6c",
];
