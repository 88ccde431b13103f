//! Bytes from a confused or hostile peer: decoding never panics, what decodes encodes again, and what is allocated is in
//! proportion to the bytes that came.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use shoal_wire::chunk::{self, ChunkHeader};
use shoal_wire::{FrameHeader, GetHead, GetMany, GetRequest, Request, Response};

use crate::samples;

/// Mutations tried in every run. `SHOAL_WIRE_MUTATIONS` tries more.
const MUTATIONS: u64 = 1_000_000;
/// Most bytes any one decoder may take in one allocation: a key of 4 KiB in memory, or a list of the items that came.
const ALLOWED: usize = 64 << 10;

thread_local! {
    /// The largest allocation of this thread since it was last asked.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which tells the largest allocation.
struct Watching;

// SAFETY: every call is passed on as it is.
#[allow(unsafe_code, reason = "an allocator can only be watched from inside")]
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no cell any more, and decodes nothing.
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

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

/// What `decode` gives, having allocated no more at once than is allowed.
fn frugal<T>(bytes: &[u8], decode: impl FnOnce(&[u8]) -> T) -> T {
    LARGEST.set(0);
    let decoded = decode(bytes);
    let largest = LARGEST.get();
    assert!(largest <= ALLOWED, "{largest} bytes allocated for a message of {}", bytes.len());
    decoded
}

macro_rules! check {
    ($message:ty, $bytes:expr) => {
        if let Ok(message) = frugal($bytes, <$message>::decode) {
            let again = <$message>::decode(samples::payload(&message.encode().expect("what decodes encodes")));
            assert_eq!(again, Ok(message));
        }
    };
}

fn decode_all(bytes: &[u8]) {
    check!(GetRequest, bytes);
    check!(GetHead, bytes);
    check!(GetMany, bytes);
    check!(Request, bytes);
    check!(Response, bytes);
    if let Some(header) = bytes.first_chunk() {
        if let Ok(decoded) = FrameHeader::decode(header) {
            assert_eq!(&decoded.encode(), header);
        }
        if let Ok(decoded) = ChunkHeader::decode(header, u32::MAX) {
            assert_eq!(&decoded.encode(), header);
        }
    }
    if let Some(header) = bytes.first_chunk()
        && let Ok(chunks) = chunk::decode_run(header)
    {
        assert_eq!(&chunk::encode_run(chunks), header);
    }
}

#[test]
fn mutated_messages_never_panic_and_never_take_more_memory_than_they_bring() {
    let rounds = std::env::var("SHOAL_WIRE_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    let seed = 0x5eed_0000_0000_0001;
    println!("seed {seed:x}, {rounds} rounds");
    let mut random = Random(seed);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    frames.extend(samples::gets().iter().map(|message| message.encode().unwrap().to_vec()));
    frames.extend(samples::batches().iter().map(|message| message.encode().unwrap().to_vec()));
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
