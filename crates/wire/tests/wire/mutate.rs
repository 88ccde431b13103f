//! Bytes from a confused or hostile peer: decoding never panics, and what decodes encodes again.

use shoal_wire::chunk::ChunkHeader;
use shoal_wire::{FrameHeader, GetHead, GetRequest, Request, Response};

use crate::samples;

/// Mutations tried: enough to be quick in every run. `SHOAL_WIRE_MUTATIONS=1000000` tries more.
const MUTATIONS: u64 = 100_000;

/// Marsaglia's xorshift64: any sequence will do, as long as a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 127, 128, 254, 255][random.below(6)],
            4 => bytes.extend_from_slice(&random.next().to_le_bytes()[..random.below(8)]),
            _ if !bytes.is_empty() => {
                bytes.remove(at);
            }
            _ => {}
        }
    }
}

fn decode_all(bytes: &[u8]) {
    if let Ok(message) = GetRequest::decode(bytes) {
        let again = GetRequest::decode(samples::payload(&message.encode().expect("what decodes encodes")));
        assert_eq!(again, Ok(message));
    }
    if let Ok(message) = GetHead::decode(bytes) {
        let again = GetHead::decode(samples::payload(&message.encode().expect("what decodes encodes")));
        assert_eq!(again, Ok(message));
    }
    if let Ok(message) = Request::decode(bytes) {
        let again = Request::decode(samples::payload(&message.encode().expect("what decodes encodes")));
        assert_eq!(again, Ok(message));
    }
    if let Ok(message) = Response::decode(bytes) {
        let again = Response::decode(samples::payload(&message.encode().expect("what decodes encodes")));
        assert_eq!(again, Ok(message));
    }
    if let Some(header) = bytes.first_chunk() {
        if let Ok(decoded) = FrameHeader::decode(header) {
            assert_eq!(&decoded.encode(), header);
        }
        if let Ok(decoded) = ChunkHeader::decode(header, u32::MAX) {
            assert_eq!(&decoded.encode(), header);
        }
    }
}

#[test]
fn mutated_messages_never_panic() {
    let rounds = std::env::var("SHOAL_WIRE_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    let seed = 0x5eed_0000_0000_0001;
    println!("seed {seed:x}, {rounds} rounds");
    let mut random = Random(seed);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    frames.extend(samples::gets().iter().map(|message| message.encode().unwrap().to_vec()));
    frames.extend(samples::heads().iter().map(|message| message.encode().unwrap().to_vec()));
    frames.extend(samples::requests().iter().map(|message| message.encode().unwrap().to_vec()));
    frames.extend(samples::responses().iter().map(|message| message.encode().unwrap().to_vec()));
    for round in 0..rounds {
        let frame = &frames[random.below(frames.len())];
        // Mostly payloads; sometimes the frame, whose header then is what is mutated.
        let mut bytes = if round % 4 == 0 { frame.clone() } else { samples::payload(frame).to_vec() };
        mutate(&mut random, &mut bytes);
        decode_all(&bytes);
    }
}
