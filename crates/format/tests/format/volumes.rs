//! Whole volumes that JuiceFS CE 1.4.2 wrote: every file must read as that client's mount showed it.
//!
//! `tests/golden/volumes/<compression>-<cipher>.json` hold the setting, each file's slice lists and SHA-256, and every
//! object. Blocks are 64 KiB, keys hashed, three shards; `text` has an overwrite, a truncation and a hole.

use std::collections::HashMap;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use shoal_format::{BlockCodec, CHUNK_BYTES, Layout, PieceSource, Settings, SliceRecord, resolve};

/// A volume from a golden file.
struct Volume {
    settings: Settings,
    layout: Layout,
    codec: BlockCodec,
    files: Vec<Value>,
    /// Stored bytes by shard and key.
    objects: HashMap<(u32, String), Bytes>,
}

impl Volume {
    fn load(path: &Path) -> Volume {
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let settings = Settings::parse(text(&golden, "setting")).unwrap();
        settings.check_client().unwrap();
        let objects = list(&golden, "objects").iter().map(|object| {
            let stored = match object.get("path") {
                Some(path) => std::fs::read(path.as_str().unwrap()).unwrap(),
                None => STANDARD.decode(text(object, "base64")).unwrap(),
            };
            ((number(object, "shard") as u32, text(object, "key").to_owned()), Bytes::from(stored))
        });
        Volume {
            layout: settings.layout(),
            codec: settings.codec(Some(text(&golden, "passphrase"))).unwrap(),
            objects: objects.collect(),
            files: list(&golden, "files").clone(),
            settings,
        }
    }

    fn stored(&self, key: &str) -> Bytes {
        let shard = self.layout.shard_of(key);
        self.objects.get(&(shard, key.to_owned())).unwrap_or_else(|| panic!("no {key} in shard {shard}")).clone()
    }

    fn read(&self, file: &Value) -> Vec<u8> {
        let mut bytes = vec![0; number(file, "length") as usize];
        for chunk in list(file, "chunks") {
            let base = number(chunk, "index") * CHUNK_BYTES;
            let records = SliceRecord::decode_list(&hex(text(chunk, "slices"))).unwrap();
            assert_eq!(SliceRecord::encode_list(&records), hex(text(chunk, "slices")));
            for piece in resolve(&records) {
                let PieceSource::Slice { id, size, off } = piece.source else { continue };
                let mut at = (base + u64::from(piece.pos)) as usize;
                for read in self.layout.reads(id, size, off, piece.len).unwrap() {
                    let plain = self.codec.decode(self.stored(&read.block.object), read.block.len).unwrap();
                    let part = &plain[read.start as usize..][..read.len as usize];
                    // A record may reach past the file's length after a truncation.
                    let visible = part.len().min(bytes.len().saturating_sub(at));
                    bytes[at.min(at + visible)..][..visible].copy_from_slice(&part[..visible]);
                    at += part.len();
                    if visible < part.len() {
                        break;
                    }
                }
            }
        }
        bytes
    }

    /// Every file reads, every object decodes, and every block survives our own encoding.
    fn check(&self) {
        for file in &self.files {
            let bytes = self.read(file);
            let sum: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, text(file, "sha256"), "{} of {}", text(file, "name"), self.settings.name);
        }
        let uuid = self.codec.decrypt_object(self.stored(&self.layout.uuid_key())).unwrap();
        assert_eq!(uuid, self.settings.uuid.as_bytes());
        for ((shard, key), stored) in &self.objects {
            assert_eq!(self.layout.shard_of(key), *shard, "{key}");
            let Some(plain_len) = key.contains("/chunks/").then(|| key.rsplit('_').next().unwrap()) else { continue };
            let plain_len: u32 = plain_len.parse().unwrap();
            assert!(stored.len() as u64 <= self.codec.max_stored_len(plain_len), "{key}");
            let plain = self.codec.decode(stored.clone(), plain_len).unwrap();
            let again = self.codec.encode(plain.clone()).unwrap();
            assert_eq!(self.codec.decode(again, plain_len).unwrap(), plain, "{key}");
        }
        assert_eq!(self.settings.buckets().unwrap().len() as u32, self.layout.shards.max(1));
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn check_all(dir: &Path) -> usize {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().for_each(|path| Volume::load(path).check());
    paths.len()
}

#[test]
fn volumes_of_the_real_client_read_as_it_showed_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/volumes");
    assert_eq!(check_all(&dir), 9);
}

#[test]
fn settings_of_the_real_client_are_rewritten_byte_for_byte() {
    for json in [include_str!("../golden/setting_all.json"), include_str!("../golden/setting_default.json")] {
        assert_eq!(Settings::parse(json).unwrap().to_json(), json);
    }
}

/// The same check over volumes made for the occasion, whose objects lie on disk (`path` instead of `base64`).
#[test]
#[ignore = "needs a directory of exported volumes in SHOAL_FORMAT_VOLUMES"]
fn exported_volumes_read_as_the_real_client_showed_them() {
    let dir = std::env::var("SHOAL_FORMAT_VOLUMES").expect("SHOAL_FORMAT_VOLUMES names a directory");
    println!("{} volumes", check_all(Path::new(&dir)));
}
