//! `shoal-cache.json`: what a cache directory is.
//!
//! Format 1. A newer format is refused, an older or damaged one says so and is refused too: the operator removes the file to start
//! empty, we delete nothing we do not understand.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use shoal_types::NodeId;

use super::layout::page_bytes_fit;

/// Name of the descriptor in its directory.
pub(crate) const DESCRIPTOR_FILE: &str = "shoal-cache.json";

const FORMAT: u32 = 1;

/// What a cache directory is, fixed when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Random; the first directory's is the node's.
    pub(crate) id: NodeId,
    pub(crate) segment_bytes: u64,
    pub(crate) page_bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    id: String,
    segment_bytes: u64,
    page_bytes: u32,
}

/// Why a descriptor is not usable.
#[derive(Debug)]
pub(crate) enum Unusable {
    Io(io::Error),
    /// A sentence for the operator.
    Foreign(String),
}

impl Descriptor {
    /// The descriptor of `dir`, if it has one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Descriptor>, Unusable> {
        match std::fs::read(dir.join(DESCRIPTOR_FILE)) {
            Ok(json) => Descriptor::parse(&json).map(Some).map_err(Unusable::Foreign),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Unusable::Io(error)),
        }
    }

    fn parse(json: &[u8]) -> Result<Descriptor, String> {
        let damaged = |what: &str| format!("{DESCRIPTOR_FILE} {what}; remove it to start with an empty cache");
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        match serde_json::from_slice(json) {
            Ok(Version { format: FORMAT }) => {}
            Ok(Version { format }) => {
                return Err(damaged(&format!("has format {format}, this version of Shoal reads format {FORMAT}")));
            }
            Err(error) => return Err(damaged(&format!("is damaged ({error})"))),
        }
        let stored: Stored = serde_json::from_slice(json).map_err(|error| damaged(&format!("is damaged ({error})")))?;
        let id = stored.id.parse().map_err(|error| damaged(&format!("is damaged ({error})")))?;
        if !page_bytes_fit(stored.page_bytes) {
            return Err(damaged(&format!("has impossible pages of {} bytes", stored.page_bytes)));
        }
        Ok(Descriptor { id, segment_bytes: stored.segment_bytes, page_bytes: stored.page_bytes })
    }

    fn to_json(&self) -> String {
        let Descriptor { id, segment_bytes, page_bytes } = self;
        let stored =
            Stored { format: FORMAT, id: id.to_string(), segment_bytes: *segment_bytes, page_bytes: *page_bytes };
        serde_json::to_string_pretty(&stored).expect("a struct of numbers and text has a JSON form")
    }

    /// Writes the descriptor of `dir`: after a crash there is the old one, the new one, or none.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let temporary = dir.join(format!("{DESCRIPTOR_FILE}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(self.to_json().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, dir.join(DESCRIPTOR_FILE))?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_pinned() {
        let descriptor = Descriptor { id: NodeId([0xab; 16]), segment_bytes: 1 << 26, page_bytes: 16384 };
        let json = "{\n  \"format\": 1,\n  \"id\": \"abababababababababababababababab\",\n  \"segment_bytes\": 67108864,\n  \
                    \"page_bytes\": 16384\n}";
        assert_eq!(descriptor.to_json(), json);
        assert_eq!(Descriptor::parse(json.as_bytes()).unwrap(), descriptor);
    }

    #[test]
    fn what_is_not_understood_is_named_and_left_alone() {
        for (json, says) in [
            ("{\"format\": 2, \"new\": 1}", "format 2"),
            ("{\"format\"", "damaged"),
            ("{\"format\": 1, \"id\": \"x\", \"segment_bytes\": 1, \"page_bytes\": 4096}", "damaged"),
            (
                "{\"format\": 1, \"id\": \"abababababababababababababababab\", \"segment_bytes\": 1, \"page_bytes\": 5}",
                "5 bytes",
            ),
        ] {
            let error = Descriptor::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(says) && error.contains("remove it"), "{json}: {error}");
        }
    }

    #[test]
    fn a_directory_without_one_is_new() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Descriptor::read(dir.path()).unwrap().is_none());
        let descriptor = Descriptor { id: NodeId([1; 16]), segment_bytes: 1 << 26, page_bytes: 4096 };
        descriptor.write(dir.path()).unwrap();
        assert_eq!(Descriptor::read(dir.path()).unwrap(), Some(descriptor));
    }
}
