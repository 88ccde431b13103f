//! Block codecs as their callers use them: shared buffers, many threads, damaged objects.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shoal_format::{BlockCodec, Settings};
use shoal_types::ErrorKind;

fn codec(compression: &str, algorithm: Option<&str>) -> BlockCodec {
    let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    settings.compression = compression.into();
    if let Some(algorithm) = algorithm {
        settings.encrypt_key = include_str!("../golden/keys/pkcs8.pem").into();
        settings.encrypt_algo = algorithm.into();
    }
    settings.codec(None).unwrap()
}

/// Every codec a volume can have.
fn codecs() -> Vec<(String, BlockCodec)> {
    let mut all = Vec::new();
    for compression in ["none", "", "lz4", "zstd"] {
        for algorithm in [None, Some(""), Some("aes256gcm-rsa"), Some("chacha20-rsa")] {
            all.push((format!("{compression} {algorithm:?}"), codec(compression, algorithm)));
        }
    }
    all
}

/// Bytes that compress somewhat: runs and noise.
fn sample(rng: &mut StdRng, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = rng.random_range(1..500);
        let byte = rng.random::<u8>();
        bytes.extend((0..run).map(|_| if byte & 1 == 0 { byte } else { rng.random() }));
    }
    bytes.truncate(len);
    bytes.into()
}

#[test]
fn every_codec_gives_back_what_it_took() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut rng = StdRng::seed_from_u64(seed);
    for (name, codec) in codecs() {
        for len in [1, 2, 15, 4096, 65_536, 300_000] {
            let plain = sample(&mut rng, len);
            let stored = codec.encode(plain.clone()).unwrap();
            assert!(stored.len() as u64 <= codec.max_stored_len(len as u32), "{name} {len}");
            // Shared, and then held by the codec alone: decrypting goes another way.
            assert_eq!(codec.decode(stored.clone(), len as u32).unwrap(), plain, "{name} {len} shared");
            assert_eq!(codec.decode(Bytes::from(stored.to_vec()), len as u32).unwrap(), plain, "{name} {len} alone");
        }
    }
}

#[test]
fn a_shared_buffer_is_left_as_it_was() {
    let codec = codec("none", Some(""));
    let stored = codec.encode(Bytes::from(vec![3; 1000])).unwrap();
    let before = stored.to_vec();
    codec.decode(stored.clone(), 1000).unwrap();
    assert_eq!(stored, before);
}

#[test]
fn every_damaged_byte_of_an_encrypted_block_is_found() {
    for algorithm in ["aes256gcm-rsa", "chacha20-rsa"] {
        let codec = codec("none", Some(algorithm));
        let stored = codec.encode(Bytes::from(vec![3; 40])).unwrap();
        // 3 + 256 + 12 bytes of envelope, 40 of ciphertext, 16 of tag; every 7th keeps the RSA operations few.
        assert_eq!(stored.len(), 327);
        for at in (0..stored.len()).filter(|at| *at < 3 || at % 7 == 0) {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 0x10;
            assert_eq!(codec.decode(damaged.into(), 40).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        }
        for len in (0..stored.len()).step_by(13) {
            assert!(codec.decode(stored.slice(..len), 40).is_err(), "cut at {len}");
        }
    }
}

#[test]
fn the_wrong_cipher_does_not_decode() {
    let stored = codec("none", Some("aes256gcm-rsa")).encode(Bytes::from(vec![3; 40])).unwrap();
    assert!(codec("none", Some("chacha20-rsa")).decode(stored.clone(), 40).is_err());
    assert!(codec("none", None).decode(stored, 40).is_err());
}

#[test]
fn objects_are_encrypted_but_never_compressed() {
    let codec = codec("zstd", Some(""));
    let stored = codec.encrypt_object(Bytes::from_static(&[0; 1000])).unwrap();
    assert_eq!(stored.len(), 1000 + 287);
    assert_eq!(codec.decrypt_object(stored).unwrap(), vec![0; 1000]);
    assert_eq!(super::codec::codec("lz4", None).encrypt_object(Bytes::from_static(b"x")).unwrap(), "x");
}

#[test]
fn blocks_beyond_the_format_are_refused() {
    let codec = BlockCodec::identity();
    assert_eq!(codec.encode(Bytes::from(vec![0; (16 << 20) + 1])).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(codec.decode(Bytes::new(), u32::MAX).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(codec.decode(Bytes::from(vec![0; 16 << 20]), 16 << 20).unwrap().len(), 16 << 20);
}

#[test]
fn threads_decode_with_one_codec() {
    let codec = codec("lz4", Some("aes256gcm-rsa"));
    let plain = Bytes::from(vec![5; 100_000]);
    let stored = codec.encode(plain.clone()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(codec.decode(stored.clone(), 100_000).unwrap(), plain);
                }
            });
        }
    });
}

#[test]
fn debug_output_holds_no_key() {
    let mut settings = Settings::new("vol", "u");
    settings.encrypt_key = include_str!("../golden/keys/pkcs8.pem").into();
    settings.secret_key = "TOPSECRET".into();
    let shown = format!("{settings:?} {:?}", settings.codec(None).unwrap());
    assert!(!shown.contains("MII") && !shown.contains("TOPSECRET"), "{shown}");
}
