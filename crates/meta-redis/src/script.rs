//! The two scripts that run in the server.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// Commits a transaction.
pub(crate) static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(COMMIT_CODE));
/// Looks a name up.
pub(crate) static LOOKUP: LazyLock<Script> = LazyLock::new(|| Script::new(LOOKUP_CODE));

const COMMIT_CODE: &str = include_str!("commit.lua");
const LOOKUP_CODE: &str = include_str!("lookup.lua");

/// Commands that make a server know the scripts. Whoever flushes them gets them loaded again by the next connection.
pub(crate) fn load() -> [Cmd; 2] {
    [COMMIT_CODE, LOOKUP_CODE].map(|code| {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(code);
        command
    })
}

/// The call of a script on `keys`; its arguments are still to be added.
pub(crate) fn call(script: &Script, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len()).arg(keys);
    command
}
