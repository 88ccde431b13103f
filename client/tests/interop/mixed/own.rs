//! A directory that one client alone works in: at each moment it is known what must be there.

use std::io;
use std::path::{Path, PathBuf};

use shoal_testkit::Rng;

use super::model::{Model, Node, first_difference};
use super::op::{Op, Sync};

/// The directory and what it must hold.
pub struct Own {
    /// Name of the directory in the volume's root.
    pub name: &'static str,
    /// Where its client has the volume mounted.
    pub mount: PathBuf,
    pub model: Model,
    pub sync: Sync,
    rng: Rng,
    steps: u64,
}

/// What failed, and what it may have done.
#[derive(Debug)]
pub struct Trouble {
    pub what: String,
    pub error: io::Error,
    /// Paths in the directory of which nobody knows what they are now.
    pub touched: Vec<PathBuf>,
}

impl Own {
    /// A directory that is there and empty.
    pub fn new(name: &'static str, mount: &Path, sync: Sync, seed: u64) -> Own {
        Own { name, mount: mount.to_owned(), model: Model::default(), sync, rng: Rng::new(seed), steps: 0 }
    }

    /// Its path in the mount of its client.
    pub fn root(&self) -> PathBuf {
        self.mount.join(self.name)
    }

    /// One operation, or a look at a file.
    pub fn step(&mut self) -> Result<(), Box<Trouble>> {
        self.steps += 1;
        if self.rng.chance(15) {
            return self.look_at_one();
        }
        let op = Op::random(&self.model, &mut self.rng);
        let done = op.perform(&self.root(), self.sync);
        match (done, self.model.answer(&op)) {
            (Ok(()), Ok(())) => self.model.apply(&op),
            (Err(error), Err(due)) if error.raw_os_error() == Some(due.raw_os_error()) => {}
            (Err(error), _) => {
                let what = format!("{}: step {}: {op:?}", self.name, self.steps);
                return Err(Box::new(Trouble { what, error, touched: self.model.touched(&op) }));
            }
            (Ok(()), Err(due)) => panic!("{}: step {}: {op:?} was done instead of {due}", self.name, self.steps),
        }
        Ok(())
    }

    fn look_at_one(&mut self) -> Result<(), Box<Trouble>> {
        let files = self.model.paths(|node| matches!(node, Node::File(_)));
        if files.is_empty() {
            return Ok(());
        }
        let path = self.rng.pick(&files);
        let what = format!("{}: step {}: reading {}", self.name, self.steps, path.display());
        match std::fs::read(self.root().join(path)) {
            Ok(bytes) => {
                let differs = first_difference(&bytes, self.model.bytes(path));
                assert_eq!(differs, None, "{what}: first wrong byte");
                Ok(())
            }
            Err(error) => Err(Box::new(Trouble { what, error, touched: Vec::new() })),
        }
    }

    /// [`Own::step`] where nothing may fail.
    pub fn steps(&mut self, count: u64) {
        for _ in 0..count {
            if let Err(trouble) = self.step() {
                panic!("{}: {}", trouble.what, trouble.error);
            }
        }
    }

    /// Goes on with what is not in doubt, at another mount.
    pub fn go_on_at(&mut self, mount: &Path, trouble: &Trouble) {
        self.mount = mount.to_owned();
        for path in &trouble.touched {
            self.model.forget(path);
            let path = self.root().join(path);
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            let is_gone =
                |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
            removed.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }).unwrap();
        }
    }

    /// Asserts that the directory is what it must be, as another mount shows it.
    #[track_caller]
    pub fn assert_seen_at(&self, mount: &Path, who: &str) {
        self.model.assert_at(&mount.join(self.name), who);
    }
}
