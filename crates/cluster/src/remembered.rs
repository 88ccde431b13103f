//! The members a node knew when it last ran, so that it finds the ring again even if no seed lives.
//!
//! They are addresses to ask, not members to believe in: who is alive now, only a living node can say.
//!
//! File: magic, format number, CRC32C of the rest (little endian), then postcard. Golden: `file_is_pinned`. A file of another
//! format, or a damaged one, is left aside with a warning: it is a help, not a source of truth.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shoal_types::checksum::crc32c;

use crate::error::ClusterError;
use crate::member::Member;
use crate::view::{MEMBERS_MAX, VIEW_BYTES_MAX};

/// Name of the file in the state directory.
const FILE: &str = "members";
/// First bytes of the file; the last one is the format number.
const MAGIC: [u8; 8] = *b"shoalmb\x02";

/// Members kept that are gone.
const GONE_MAX: usize = 32;

/// What is kept between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// Highest incarnation this node has used: its next life must be above, even if the clock went back.
    pub(crate) incarnation: u64,
    /// Thousandths of this node's penalty for coming and going, as of `penalty_at`; see `damping`.
    pub(crate) penalty_milli: u32,
    /// Seconds since 1970.
    pub(crate) penalty_at: u64,
    /// The other members, and after them, newest first, some that are gone: a node that was cut off loses its peers one by
    /// one, and each of them may be the one that is back first.
    pub(crate) members: Vec<Arc<Member>>,
}

impl Remembered {
    /// What `dir` holds; nothing if it holds no usable file.
    pub(crate) fn load(dir: &Path) -> Remembered {
        let path = dir.join(FILE);
        let bytes = match fs::metadata(&path).and_then(|meta| match meta.len() > VIEW_BYTES_MAX as u64 {
            true => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
            false => fs::read(&path),
        }) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Remembered::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "remembered members cannot be read: relying on the seeds");
                return Remembered::default();
            }
        };
        Remembered::decode(&bytes).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "remembered members are unreadable: relying on the seeds");
            Remembered::default()
        })
    }

    /// The other members are `others` now.
    pub(crate) fn now(&mut self, others: Vec<Arc<Member>>) {
        let mut gone = std::mem::replace(&mut self.members, others);
        gone.retain(|member| self.members.iter().all(|other| other.id != member.id));
        gone.truncate(GONE_MAX.min(MEMBERS_MAX - self.members.len().min(MEMBERS_MAX)));
        self.members.append(&mut gone);
    }

    /// Addresses of members that are gone, all those that `members` do not hold.
    pub(crate) fn gone(&self, members: &[Arc<Member>]) -> Vec<SocketAddr> {
        let here = |gone: &Member| members.binary_search_by_key(&gone.id, |member| member.id).is_ok();
        self.members.iter().filter(|member| !here(member)).map(|member| member.addr).collect()
    }

    /// Replaces the file in `dir`, all or nothing, durably.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), ClusterError> {
        let path = dir.join(FILE);
        let failed = |source| ClusterError::Remembered { path: path.clone(), source };
        replace(dir, &path, &self.encode()).map_err(failed)
    }

    fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("growing a vector and plain structs cannot fail");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Remembered> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (crc, body) = rest.split_first_chunk::<4>()?;
        if crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let remembered: Remembered = postcard::from_bytes(body).ok()?;
        let sound =
            remembered.members.len() <= MEMBERS_MAX && remembered.members.iter().all(|member| member.check().is_ok());
        sound.then_some(remembered)
    }
}

fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let beside: PathBuf = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use shoal_types::NodeId;

    use super::*;

    fn remembered() -> Remembered {
        let member = Member::new(NodeId([3; 16]), "n", ([10, 0, 0, 3], 7070).into());
        let member = Member { capacity: 5, incarnation: 9, life: 8, ..member };
        Remembered { incarnation: 300, penalty_milli: 1000, penalty_at: 3, members: vec![Arc::new(member)] }
    }

    #[test]
    fn a_saved_file_is_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let deeper = dir.path().join("state");
        assert_eq!(Remembered::load(&deeper), Remembered::default());
        remembered().save(&deeper).unwrap();
        remembered().save(&deeper).unwrap();
        assert_eq!(Remembered::load(&deeper), remembered());
    }

    #[test]
    fn members_that_are_gone_are_kept_behind_the_others_up_to_a_bound() {
        let member = |byte: u8| Arc::new(Member { id: NodeId([byte; 16]), ..remembered().members[0].as_ref().clone() });
        let mut remembered = Remembered::default();
        remembered.now((1..=3).map(member).collect());
        remembered.now(vec![member(2)]);
        assert_eq!(remembered.members, [member(2), member(1), member(3)]);
        remembered.now(Vec::new());
        assert_eq!(remembered.members, [member(2), member(1), member(3)]);
        remembered.now(vec![member(3)]);
        assert_eq!(remembered.members, [member(3), member(2), member(1)]);
        remembered.now((100..200).map(member).collect());
        remembered.now(Vec::new());
        assert_eq!(remembered.members.len(), GONE_MAX);
    }

    #[test]
    fn damage_is_noticed_and_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let good = remembered().encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(dir.path().join(FILE), &bad).unwrap();
            assert_eq!(Remembered::load(dir.path()), Remembered::default(), "byte {at}");
            assert!(Remembered::decode(&good[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = remembered().save(&file).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn file_is_pinned() {
        let mut golden = b"shoalmb\x02".to_vec();
        let mut body = vec![0xac, 0x02, 0xe8, 0x07, 3, 1];
        body.extend_from_slice(&[3; 16]);
        body.extend_from_slice(&[1, b'n', 0, 10, 0, 0, 3, 0x9e, 0x37, 100, 5, 0, 9, 8, 0, 0]);
        golden.extend_from_slice(&crc32c(&body).to_le_bytes());
        golden.extend_from_slice(&body);
        assert_eq!(remembered().encode(), golden);
    }
}
