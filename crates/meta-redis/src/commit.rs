//! A transaction as the commit script takes it: what must still be so, and what is written then.

use std::collections::HashMap;

use bytes::Bytes;
use redis::Cmd;

use crate::script;

/// Arguments of one command: the script's stack is limited.
const ARGS_MAX: usize = 1000;

/// Checks and writes.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    keys: Vec<String>,
    indexes: HashMap<String, usize>,
    checks: Vec<Bytes>,
    checks_count: usize,
    writes: Vec<Bytes>,
}

impl Commit {
    /// What must be so of `key`: see the script for the kinds and what they expect.
    pub(crate) fn check<const N: usize>(&mut self, kind: &'static str, key: &str, expected: [Bytes; N]) {
        let key = self.key(key);
        self.checks.extend([Bytes::from_static(kind.as_bytes()), key]);
        self.checks.extend(expected);
        self.checks_count += 1;
    }

    /// A command on `key`.
    pub(crate) fn write(&mut self, command: &'static str, key: &str, args: impl IntoIterator<Item = Bytes>) {
        let key = self.key(key);
        self.writes.extend([Bytes::from_static(command.as_bytes()), key]);
        let count = self.writes.len();
        self.writes.push(Bytes::new());
        self.writes.extend(args);
        self.writes[count] = number(self.writes.len() - count - 1);
    }

    /// A command on `key` that takes any number of arguments, in groups of `group`.
    pub(crate) fn write_many(&mut self, command: &'static str, key: &str, args: &[Bytes], group: usize) {
        for args in args.chunks(ARGS_MAX / group * group) {
            self.write(command, key, args.iter().cloned());
        }
    }

    /// Number of checks so far.
    pub(crate) fn checks(&self) -> usize {
        self.checks_count
    }

    /// True if there is nothing to write.
    pub(crate) fn writes_nothing(&self) -> bool {
        self.writes.is_empty()
    }

    /// The call of the script. It gives 0, or the number of the first check that failed.
    pub(crate) fn command(&self) -> Cmd {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let mut command = script::call(&script::COMMIT, &keys);
        command.arg(self.checks_count);
        for arg in self.checks.iter().chain(&self.writes) {
            command.arg(&arg[..]);
        }
        command
    }

    fn key(&mut self, key: &str) -> Bytes {
        if let Some(index) = self.indexes.get(key) {
            return number(*index);
        }
        self.keys.push(key.to_owned());
        self.indexes.insert(key.to_owned(), self.keys.len());
        number(self.keys.len())
    }
}

/// A number as arguments hold it.
pub(crate) fn number(number: impl ToString) -> Bytes {
    Bytes::from(number.to_string())
}
