//! Network namespaces without names: hosts of their own on this machine.
//!
//! A namespace lives as long as its descriptor is open or a process runs in it, so nothing is left when a test panics or is
//! killed. Linux keeps a namespace for each thread; a child inherits its parent thread's, and a socket that of its making.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A new network namespace, made by a process that ends at once: its descriptor is what keeps it. Needs root and `unshare`.
pub fn network_namespace() -> io::Result<File> {
    let mut maker = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let made = match maker.stdout.take() {
        Some(mut said) => said.read_exact(&mut [0]),
        None => Ok(()),
    };
    let namespace = made.and_then(|()| File::open(format!("/proc/{}/ns/net", maker.id())));
    drop(maker.stdin.take());
    maker.wait()?;
    namespace
}

/// Moves the calling thread into `namespace` until what this gives is dropped, on the same thread.
pub fn enter_namespace(namespace: &File) -> InNamespace {
    let before = File::open("/proc/thread-self/ns/net").expect("a thread has a network namespace");
    set(namespace);
    InNamespace { before }
}

/// The calling thread is in another network namespace as long as this lives.
pub struct InNamespace {
    before: File,
}

impl Drop for InNamespace {
    fn drop(&mut self) {
        set(&self.before);
    }
}

fn set(namespace: &File) {
    let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
    moved.expect("root may enter a namespace it made");
}
