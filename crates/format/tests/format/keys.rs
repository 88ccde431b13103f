//! Private keys in every form the real client takes. All but `rsa3072` and the refused ones hold the same key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use shoal_format::{BlockCodec, FormatError, Settings};
use shoal_types::ErrorKind;

fn codec(pem: &str, passphrase: Option<&str>) -> Result<BlockCodec, FormatError> {
    let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    settings.encrypt_key = pem.to_owned();
    settings.seal_secrets().unwrap();
    settings.codec(passphrase)
}

macro_rules! key {
    ($name:literal) => {
        ($name, include_str!(concat!("../golden/keys/", $name, ".pem")))
    };
}

const CLEAR: [(&str, &str); 4] = [key!("pkcs8"), key!("pkcs1"), key!("preamble"), key!("rsa3072")];

const PROTECTED: [(&str, &str); 8] = [
    key!("legacy_aes128"),
    key!("legacy_aes192"),
    key!("legacy_aes256"),
    key!("legacy_3des"),
    key!("pbes2_sha256_aes256"),
    key!("pbes2_sha1_aes256"),
    key!("pbes2_3des"),
    key!("pbes2_scrypt"),
];

#[test]
fn every_form_of_a_key_opens_the_same_objects() {
    let plain = Bytes::from_static(b"the bytes of an object");
    let reference = codec(CLEAR[0].1, None).unwrap();
    let stored = reference.encrypt_object(plain.clone()).unwrap();
    for (name, pem) in CLEAR.into_iter().take(3).chain(PROTECTED) {
        let codec = codec(pem, Some("secret")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(codec.decrypt_object(stored.clone()).unwrap(), plain, "{name}");
    }
}

#[test]
fn a_key_opens_what_it_made_and_nothing_else() {
    let plain = Bytes::from(vec![9; 5000]);
    let reference = codec(CLEAR[0].1, None).unwrap();
    let other = codec(CLEAR[3].1, None).unwrap();
    let stored = other.encrypt_object(plain.clone()).unwrap();
    assert_eq!(stored.len(), 5000 + 287 + 128, "a 3072-bit key wraps to 384 bytes");
    assert_eq!(other.decrypt_object(stored.clone()).unwrap(), plain);
    assert_eq!(reference.decrypt_object(stored).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_protected_key_asks_for_its_passphrase() {
    for (name, pem) in PROTECTED {
        for missing in [None, Some("")] {
            let error = codec(pem, missing).unwrap_err();
            assert!(matches!(error, FormatError::PassphraseMissing { .. }), "{name}: {error}");
        }
        let error = codec(pem, Some("wrong")).unwrap_err();
        assert!(matches!(error, FormatError::PassphraseWrong { .. }), "{name}: {error}");
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("`vol`") && error.to_string().contains("JFS_RSA_PASSPHRASE"));
    }
}

#[test]
fn a_key_we_cannot_use_says_why() {
    for ((name, pem), reason) in [
        (key!("ec"), "no RSA key"),
        (key!("rsa1024"), "2048 to 8192 bits"),
        (key!("pbes1"), "other than PBES2"),
        (key!("legacy_camellia"), "other than AES or triple DES"),
        (("empty block", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"), "no RSA key"),
        (("certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), "no RSA private key"),
        (("no PEM", "hello"), "no PEM text"),
    ] {
        let error = codec(pem, Some("secret")).unwrap_err();
        assert!(error.to_string().contains(reason), "{name}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
    }
}

#[test]
fn a_key_that_would_take_forever_to_open_is_refused() {
    let body: String = PROTECTED[7].1.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(body).unwrap();
    // scrypt cost 1024, block size 8 and parallelization 1 as DER integers become 16384, 127 and 2: 508 MiB.
    let cheap = [2, 2, 4, 0, 2, 1, 8, 2, 1, 1];
    let at = der.windows(cheap.len()).position(|window| window == cheap).expect("the scrypt parameters");
    der[at..at + cheap.len()].copy_from_slice(&[2, 2, 0x40, 0, 2, 1, 127, 2, 1, 2]);
    let pem = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{}\n-----END", STANDARD.encode(der));
    let pem = format!("{pem} ENCRYPTED PRIVATE KEY-----\n");
    let error = codec(&pem, Some("secret")).unwrap_err();
    assert!(error.to_string().contains("too much time or memory"), "{error}");
}

#[test]
fn sm4_volumes_are_refused_by_name() {
    let mut settings = Settings::new("vol", "u");
    settings.encrypt_key = CLEAR[0].1.to_owned();
    settings.encrypt_algo = "sm4gcm".into();
    let error = settings.codec(None).unwrap_err();
    assert_eq!(error.to_string(), "volume `vol` uses encryption `sm4gcm`, which this client does not support");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
