//! Bytes nobody made: no decoder panics, whatever it is given.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shoal_format::{AclEntry, AclRule, Attr, BlockCodec, Dentry, FileType, Ino, Settings, SliceRecord, Time, Version};
use shoal_format::{resolve, validate_name};

/// Inputs for each decoder.
const INPUTS: usize = 100_000;

/// Calls `decode` with `inputs` byte strings: noise, and damaged copies of `samples`.
fn fuzz(seed: u64, inputs: usize, samples: &[Vec<u8>], mut decode: impl FnMut(&mut StdRng, &[u8])) {
    println!("seed {seed:#x}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut input = Vec::new();
    for _ in 0..inputs {
        input.clear();
        if rng.random_ratio(1, 4) {
            let len = rng.random_range(0..100);
            input.extend((0..len).map(|_| rng.random::<u8>()));
        } else {
            input.extend_from_slice(&samples[rng.random_range(0..samples.len())]);
            for _ in 0..rng.random_range(1..4) {
                damage(&mut rng, &mut input);
            }
        }
        decode(&mut rng, &input);
    }
}

fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(rng.random());
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..6) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.random_range(0..5)],
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.random()),
        4 => _ = bytes.remove(at),
        _ => {
            let end = rng.random_range(at..=bytes.len().min(at + 8));
            let copy = bytes[at..end].to_vec();
            bytes.extend_from_slice(&copy);
        }
    }
}

fn attr() -> Attr {
    let attr = Attr::new(FileType::Directory, 0o755, Ino::ROOT, Time { secs: 1_700_000_000, nanos: 5 });
    Attr { access_acl: 1, tier: 2, ..attr }
}

fn acl() -> AclRule {
    let named_users = (0..5).map(|id| AclEntry { id, perm: 7 }).collect();
    AclRule { owner: Some(7), mask: Some(5), named_users, ..AclRule::default() }
}

#[test]
fn attributes_and_dentries_never_panic() {
    let samples = [attr().encode(), Attr { access_acl: 0, tier: 0, ..attr() }.encode()];
    fuzz(0x5eed_0010, INPUTS, &samples, |_, bytes| {
        if let Ok(attr) = Attr::decode(bytes) {
            assert_eq!(Attr::decode(&attr.encode()).unwrap(), attr);
            attr.mtime.to_system_time();
            attr.mtime.to_micros();
        }
    });
    let samples = [Dentry { kind: FileType::Regular, ino: Ino(3) }.encode().to_vec()];
    fuzz(0x5eed_0011, INPUTS, &samples, |_, bytes| {
        if let Ok(dentry) = Dentry::decode(bytes) {
            assert_eq!(dentry.encode()[..], *bytes);
        }
    });
}

#[test]
fn acl_rules_never_panic() {
    fuzz(0x5eed_0012, INPUTS, &[acl().encode()], |_, bytes| {
        if let Ok(rule) = AclRule::decode(bytes) {
            assert_eq!(rule.encode(), bytes);
            rule.to_xattr();
        }
        _ = AclEntry::decode_list(bytes);
    });
}

#[test]
fn slice_lists_never_panic() {
    let list = [SliceRecord::whole(0, 1, 10 << 20), SliceRecord::hole(100, 200), SliceRecord::whole(5_000_000, 2, 100)];
    let layout = Settings::new("vol", "u").layout();
    fuzz(0x5eed_0013, INPUTS, &[SliceRecord::encode_list(&list)], |_, bytes| {
        let whole = &bytes[..bytes.len() / SliceRecord::BYTES * SliceRecord::BYTES];
        let records = SliceRecord::decode_list(whole).unwrap();
        assert_eq!(SliceRecord::decode_list(bytes).is_ok(), whole.len() == bytes.len());
        for piece in resolve(&records) {
            let shoal_format::PieceSource::Slice { id, size, off } = piece.source else { continue };
            if let Ok(reads) = layout.reads(id, size, off, piece.len) {
                assert_eq!(reads.map(|read| read.len).sum::<u32>(), piece.len);
            }
        }
    });
}

#[test]
fn settings_and_versions_never_panic() {
    let mut sealed = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    sealed.secret_key = "x".into();
    sealed.seal_secrets().unwrap();
    let short = r#"{"Name":"v","BlockSize":64,"Shards":3,"Bucket":"b%d","Tiers":{"1":{"ID":1}},"X":[1e9]}"#;
    let samples = [short.as_bytes().to_vec(), short.replace(',', ",\n").into_bytes()];
    let decode = |_: &mut StdRng, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(settings) = Settings::parse(&text) {
            let again = Settings::parse(&settings.to_json()).expect("what we write we read");
            assert_eq!(again, settings);
            _ = (settings.check_client(), settings.buckets(), settings.secret_key());
        }
        _ = validate_name(&text);
        _ = Version::parse(&text);
    };
    fuzz(0x5eed_0014, INPUTS, &samples, decode);
    fuzz(0x5eed_0015, 5000, &[sealed.to_json().into_bytes(), b"1.4.0-A+b".to_vec()], decode);
}

fn codec(compression: &str, pem: &str) -> BlockCodec {
    let mut settings = Settings::new("vol", "u");
    settings.compression = compression.into();
    settings.encrypt_key = pem.into();
    settings.codec(None).unwrap()
}

#[test]
fn compressed_blocks_never_panic() {
    let plain = Bytes::from([&[7; 300][..], b"some text, some text", &[0; 100]].concat());
    for compression in ["lz4", "zstd"] {
        let codec = codec(compression, "");
        let stored = codec.encode(plain.clone()).unwrap();
        fuzz(0x5eed_0016, INPUTS, &[stored.to_vec()], |rng, bytes| {
            let plain_len = [420, 0, 1, 419, 421, 4096][rng.random_range(0..6)];
            if let Ok(plain) = codec.decode(Bytes::copy_from_slice(bytes), plain_len) {
                assert_eq!(plain.len(), plain_len as usize);
            }
        });
    }
}

#[test]
fn encrypted_objects_and_keys_never_panic() {
    let codec = codec("none", include_str!("../golden/keys/pkcs8.pem"));
    let stored = codec.encode(Bytes::from_static(b"hello world\n")).unwrap();
    // Noise is turned away before the RSA operation; what looks right costs a millisecond, so there is less of it.
    let noise = stored[..200].to_vec();
    fuzz(0x5eed_0017, INPUTS, &[noise, vec![0, 1, 12, 9]], |_, bytes| {
        assert!(codec.decode(Bytes::copy_from_slice(bytes), 12).is_err());
    });
    fuzz(0x5eed_0018, 300, &[stored.to_vec()], |_, bytes| {
        // Damage may cancel out; then it is the block again.
        if let Ok(plain) = codec.decode(Bytes::copy_from_slice(bytes), 12) {
            assert_eq!((&plain[..], bytes), (&b"hello world\n"[..], &stored[..]));
        }
    });
    let keys =
        [include_bytes!("../golden/keys/pkcs1.pem").to_vec(), include_bytes!("../golden/keys/pbes1.pem").to_vec()];
    let mut settings = Settings::new("vol", "u");
    fuzz(0x5eed_0019, 2000, &keys, |rng, bytes| {
        settings.encrypt_key = String::from_utf8_lossy(bytes).into_owned();
        _ = settings.codec([None, Some("secret")][rng.random_range(0..2)]);
    });
}
