//! Random changes against a model: a plain tree in memory that follows POSIX in the simplest way that is right.
//!
//! The same seed makes the same history; a failure names it. Two clients take turns on one volume.

use std::collections::BTreeMap;

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, attr_flag};
use shoal_types::ErrorKind;

use super::Case;
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, NewInode, SetAttr, XattrMode};
use crate::record::{Counter, DirUsage, align4k};

const STEPS: usize = 800;

/// A generator whose numbers follow from its seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % n as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// An inode of the model.
#[derive(Debug, Clone)]
struct Node {
    kind: FileType,
    mode: u16,
    uid: u32,
    gid: u32,
    flags: u8,
    rdev: u32,
    target: Option<Bytes>,
    /// A directory's names.
    names: BTreeMap<Bytes, Ino>,
    xattrs: BTreeMap<Bytes, Bytes>,
}

impl Node {
    fn new(kind: FileType, mode: u16, uid: u32, gid: u32) -> Node {
        let (names, xattrs) = (BTreeMap::new(), BTreeMap::new());
        Node { kind, mode, uid, gid, flags: 0, rdev: 0, target: None, names, xattrs }
    }

    fn length(&self) -> u64 {
        match (self.kind, &self.target) {
            (FileType::Directory, _) => 4096,
            (_, Some(target)) => target.len() as u64,
            _ => 0,
        }
    }

    fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    fn lets(&self, caller: &Caller, wanted: u16) -> bool {
        let member = caller.gid == self.gid || caller.groups.contains(&self.gid);
        let class = if caller.uid == self.uid {
            self.mode >> 6
        } else if member {
            self.mode >> 3
        } else {
            self.mode
        };
        caller.uid == 0 || class & wanted == wanted
    }

    fn fixed(&self) -> bool {
        self.flags & (attr_flag::IMMUTABLE | attr_flag::APPEND) != 0
    }
}

/// Why the model refuses: what a program would see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    Missing,
    Exists,
    NotDirectory,
    Because(Refusal),
}

fn no(error: &MetaError) -> No {
    match error {
        MetaError::NoInode { .. } => No::Missing,
        MetaError::Exists { .. } | MetaError::Taken { .. } => No::Exists,
        MetaError::NotDirectory { .. } => No::NotDirectory,
        MetaError::Refused { why, .. } => No::Because(*why),
        other => panic!("no such answer is expected: {other}"),
    }
}

const DENIED: No = No::Because(Refusal::NotPermitted);

/// The tree.
#[derive(Debug)]
struct Model(BTreeMap<Ino, Node>);

impl Model {
    fn new() -> Model {
        Model(BTreeMap::from([(Ino::ROOT, Node::new(FileType::Directory, 0o777, 0, 0))]))
    }

    /// The directory that shall get `name`, if that is allowed.
    fn room(&self, caller: &Caller, parent: Ino, name: &Bytes) -> Result<&Node, No> {
        let dir = self.0.get(&parent).ok_or(No::Missing)?;
        match dir {
            dir if !dir.is_dir() => Err(No::NotDirectory),
            dir if dir.flags & attr_flag::IMMUTABLE != 0 => Err(DENIED),
            dir if !dir.lets(caller, 0o3) => Err(No::Because(Refusal::Access)),
            dir if dir.names.contains_key(name) => Err(No::Exists),
            dir => Ok(dir),
        }
    }

    fn create(&self, caller: &Caller, parent: Ino, name: &Bytes, new: &NewInode, mode: u16) -> Result<Node, No> {
        let dir = self.room(caller, parent, name)?;
        let (kind, rdev, target) = match new {
            NewInode::File => (FileType::Regular, 0, None),
            NewInode::Directory => (FileType::Directory, 0, None),
            NewInode::Symlink(target) => (FileType::Symlink, 0, Some(target.clone())),
            NewInode::Fifo => (FileType::Fifo, 0, None),
            NewInode::Socket => (FileType::Socket, 0, None),
            NewInode::BlockDevice(number) => (FileType::BlockDevice, *number, None),
            NewInode::CharDevice(number) => (FileType::CharDevice, *number, None),
        };
        let umask = if kind == FileType::Symlink { 0 } else { caller.umask };
        let mut node = Node::new(kind, mode & !umask, caller.uid, caller.gid);
        (node.rdev, node.target, node.flags) = (rdev, target, dir.flags & attr_flag::SKIP_TRASH);
        if dir.mode & 0o2000 != 0 {
            let member = caller.uid == 0 || caller.gid == dir.gid || caller.groups.contains(&dir.gid);
            node.gid = dir.gid;
            if node.is_dir() {
                node.mode |= 0o2000;
            } else if !member && node.mode & 0o2010 == 0o2010 {
                node.mode &= !0o2000;
            }
        }
        Ok(node)
    }

    fn link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &Bytes) -> Result<(), No> {
        // The directory is looked at first, its names last.
        match self.room(caller, parent, name) {
            Ok(_) | Err(No::Exists) => {}
            Err(other) => return Err(other),
        }
        let file = self.0.get(&ino).ok_or(No::Missing)?;
        if file.is_dir() || file.fixed() {
            return Err(DENIED);
        }
        self.room(caller, parent, name).map(drop)
    }

    fn setattr(&mut self, caller: &Caller, ino: Ino, set: &SetAttr) -> Result<(), No> {
        let node = self.0.get_mut(&ino).ok_or(No::Missing)?;
        let chmod_or_chown = set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        if node.fixed() && chmod_or_chown {
            return Err(DENIED);
        }
        let owns = caller.uid == 0 || caller.uid == node.uid;
        let gives = set.uid.is_some_and(|uid| uid != node.uid)
            || set.gid.is_some_and(|gid| gid != node.gid && gid != caller.gid && !caller.groups.contains(&gid));
        if !owns || (caller.uid != 0 && gives) {
            return Err(DENIED);
        }
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        let stranger = caller.uid != 0 && caller.gid != node.gid && !caller.groups.contains(&node.gid);
        if let Some(mode) = set.mode {
            node.mode = if stranger { mode & !0o2000 } else { mode };
        }
        if (set.uid.is_some() || set.gid.is_some()) && !node.is_dir() {
            let keeps_group = caller.uid == 0 && node.mode & 0o010 == 0;
            node.mode &= if keeps_group { !0o4000 } else { !0o6000 };
        }
        node.flags = set.flags.unwrap_or(node.flags);
        Ok(())
    }

    fn setxattr(&mut self, ino: Ino, name: &Bytes, value: &Bytes, mode: XattrMode) -> Result<(), No> {
        let node = self.0.get_mut(&ino).ok_or(No::Missing)?;
        match (mode, node.xattrs.contains_key(name)) {
            _ if node.fixed() => return Err(DENIED),
            (XattrMode::Create, true) => return Err(No::Exists),
            (XattrMode::Replace, false) => return Err(No::Because(Refusal::NoAttribute)),
            _ => {}
        }
        node.xattrs.insert(name.clone(), value.clone());
        Ok(())
    }

    fn removexattr(&mut self, ino: Ino, name: &Bytes) -> Result<(), No> {
        let node = self.0.get_mut(&ino).ok_or(No::Missing)?;
        if node.fixed() {
            return Err(DENIED);
        }
        node.xattrs.remove(name).map(drop).ok_or(No::Because(Refusal::NoAttribute))
    }

    fn add_name(&mut self, parent: Ino, name: Bytes, ino: Ino) {
        self.0.get_mut(&parent).expect("a directory that took a name").names.insert(name, ino);
    }

    /// Directories that hold each inode, once for each name.
    fn parents(&self) -> BTreeMap<Ino, Vec<Ino>> {
        let mut parents: BTreeMap<Ino, Vec<Ino>> = BTreeMap::new();
        for (dir, node) in &self.0 {
            node.names.values().for_each(|ino| parents.entry(*ino).or_default().push(*dir));
        }
        parents
    }
}

/// What the next step may use.
struct Pool {
    dice: Dice,
    inos: Vec<Ino>,
    callers: Vec<Caller>,
}

impl Pool {
    fn new(seed: u64) -> Pool {
        let user =
            |uid, gid, groups: &[u32], umask| Caller { uid, gid, groups: groups.to_vec(), umask, pid: 1, check: true };
        let callers =
            vec![user(0, 0, &[], 0o022), user(1, 1, &[7], 0), user(2, 1, &[], 0o027), user(3, 3, &[7], 0o002)];
        Pool { dice: Dice(seed), inos: vec![Ino::ROOT, Ino(1 << 40)], callers }
    }

    fn ino(&mut self) -> Ino {
        self.dice.pick(&self.inos)
    }

    fn caller(&mut self) -> Caller {
        self.dice.pick(&self.callers)
    }

    fn name(&mut self) -> Bytes {
        Bytes::from(format!("n{}", self.dice.below(200)))
    }

    fn new_inode(&mut self) -> NewInode {
        match self.dice.below(12) {
            0 => NewInode::Symlink(Bytes::from(vec![b't'; 1 + self.dice.below(4000)])),
            1 => NewInode::Fifo,
            2 => NewInode::Socket,
            3 => NewInode::BlockDevice(self.dice.below(1 << 20) as u32),
            4 => NewInode::CharDevice(self.dice.below(1 << 20) as u32),
            5..=7 => NewInode::File,
            _ => NewInode::Directory,
        }
    }

    fn mode(&mut self) -> u16 {
        self.dice.pick(&[0o755, 0o777, 0o644, 0o2775, 0o1777, 0o700, 0o6755, 0o4711, 0o2755, 0])
    }

    fn set_attr(&mut self) -> SetAttr {
        let mut set = SetAttr::default();
        match self.dice.below(4) {
            0 => set.mode = Some(self.mode()),
            1 => set.uid = Some(self.dice.below(4) as u32),
            2 => set.gid = Some(self.dice.pick(&[0, 1, 3, 7])),
            _ => {
                set.flags =
                    Some(self.dice.pick(&[0, 0, 0, attr_flag::IMMUTABLE, attr_flag::APPEND, attr_flag::SKIP_TRASH]))
            }
        }
        set
    }
}

pub(super) async fn random_histories_end_like_the_model(case: &Case) {
    case.init().await;
    let clients = [case.join().await, case.join().await];
    let seed = 0x5ea1;
    println!("history of seed {seed:#x}");
    let (mut pool, mut model) = (Pool::new(seed), Model::new());
    for step in 0..STEPS {
        let client = &clients[step % 2];
        let (caller, ino, parent, name) = (pool.caller(), pool.ino(), pool.ino(), pool.name());
        let (what, expected, seen) = match pool.dice.below(20) {
            0..=9 => {
                let (new, mode) = (pool.new_inode(), pool.mode());
                let expected = model.create(&caller, parent, &name, &new, mode);
                let seen = client.create(&caller, parent, &name, &new, mode).await;
                if let (Ok(node), Ok((ino, _))) = (&expected, &seen) {
                    model.0.insert(*ino, node.clone());
                    model.add_name(parent, name.clone(), *ino);
                    pool.inos.push(*ino);
                }
                (format!("create {new:?}"), expected.map(drop), seen.map(drop))
            }
            10..=12 => {
                let expected = model.link(&caller, ino, parent, &name);
                if expected.is_ok() {
                    model.add_name(parent, name.clone(), ino);
                }
                ("link".to_owned(), expected, client.link(&caller, ino, parent, &name).await.map(drop))
            }
            13..=15 => {
                let set = pool.set_attr();
                let expected = model.setattr(&caller, ino, &set);
                (format!("{set:?}"), expected, client.setattr(&caller, ino, &set).await.map(drop))
            }
            16..=18 => {
                let (name, value) =
                    (Bytes::from(format!("user.{}", pool.dice.below(3))), Bytes::from(format!("{step}")));
                let mode = pool.dice.pick(&[XattrMode::Any, XattrMode::Create, XattrMode::Replace]);
                let expected = model.setxattr(ino, &name, &value, mode);
                (format!("setxattr {mode:?}"), expected, client.setxattr(ino, &name, &value, mode).await)
            }
            _ => {
                let name = Bytes::from(format!("user.{}", pool.dice.below(3)));
                ("removexattr".to_owned(), model.removexattr(ino, &name), client.removexattr(ino, &name).await)
            }
        };
        let seen = seen.map_err(|error| no(&error));
        assert_eq!(
            expected, seen,
            "{}: step {step} of seed {seed:#x}: {what} by {caller:?} on {ino} and {parent}",
            case.name
        );
    }
    for client in clients {
        case.ok(client.close().await);
    }
    assert!(model.0.len() > 60, "only {} inodes", model.0.len());
    compare(case, &model).await;
    case.quotas_agree().await;
}

/// Everything the model knows must be what the volume says.
async fn compare(case: &Case, model: &Model) {
    let (parents, records) = (model.parents(), case.engine.records());
    for (ino, node) in &model.0 {
        let attr = case.some(case.meta.getattr(*ino).await);
        let holders = parents.get(ino).map_or(&[][..], Vec::as_slice);
        let subdirs = node.names.values().filter(|child| model.0[child].is_dir()).count();
        let nlink = if node.is_dir() { 2 + subdirs } else { holders.len() };
        let seen = (attr.kind, attr.mode, attr.uid, attr.gid, attr.flags, attr.rdev, attr.length, attr.nlink as usize);
        let Node { kind, mode, uid, gid, flags, rdev, .. } = *node;
        assert_eq!(seen, (kind, mode, uid, gid, flags, rdev, node.length(), nlink), "{}: inode {ino}", case.name);
        assert_eq!(case.ok(case.meta.readlink(*ino).await), node.target);
        compare_names(case, model, *ino, node, &attr).await;
        if holders.len() > 1 {
            let counted = case.ok(records.parents(*ino).await);
            let spread: Vec<Ino> =
                counted.iter().flat_map(|p| std::iter::repeat_n(p.parent, p.count as usize)).collect();
            assert_eq!((spread.as_slice(), attr.parent), (holders, Ino::NONE), "{}: inode {ino}", case.name);
        }
        for (name, value) in &node.xattrs {
            assert_eq!(case.some(case.meta.getxattr(*ino, name).await), *value);
        }
        let names: Vec<Bytes> = node.xattrs.keys().cloned().collect();
        assert_eq!(case.ok(case.meta.listxattr(*ino).await), names);
    }
    let others = model.0.iter().filter(|(ino, _)| **ino != Ino::ROOT);
    let inodes = others.clone().count() as i64;
    assert_eq!(case.ok(records.counter(Counter::TotalInodes).await), inodes);
    assert_eq!(case.ok(records.counter(Counter::UsedSpace).await), 4096 * inodes, "no file has data");
    assert_eq!(case.ok(case.meta.getattr(Ino(1 << 40)).await), None);
}

async fn compare_names(case: &Case, model: &Model, ino: Ino, node: &Node, attr: &Attr) {
    if !node.is_dir() {
        let kind = case.meta.readdir(ino).await.expect_err("no directory").kind();
        assert_eq!((kind, attr.is_dir()), (ErrorKind::Invalid, false));
        return;
    }
    let listed = case.ok(case.meta.readdir(ino).await);
    let listed: BTreeMap<Bytes, Ino> = listed.into_iter().map(|entry| (entry.name, entry.ino)).collect();
    assert_eq!(listed, node.names, "{}: names in {ino}", case.name);
    let files = node.names.values().filter(|child| model.0[child].kind == FileType::Regular);
    let length: u64 = files.map(|child| model.0[child].length()).sum();
    let inodes = node.names.len() as i64;
    let usage = DirUsage { length: length as i64, space: align4k(0) as i64 * inodes, inodes };
    assert_eq!(case.ok(case.engine.records().dir_usage(ino).await), Some(usage), "{}: use of {ino}", case.name);
}
