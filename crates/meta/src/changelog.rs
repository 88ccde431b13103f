//! Entries of the metadata change log: what each transaction did, as text (spec section 20).

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use shoal_format::{Settings, Time};

use crate::engine::Txn;
use crate::error::MetaError;

/// What an operation did: `OP(arguments)` and, where there is one, `:result`.
#[derive(Debug)]
pub(crate) struct LogEntry {
    text: String,
    result: String,
}

impl LogEntry {
    /// An entry without arguments.
    pub(crate) fn new(op: &str) -> LogEntry {
        LogEntry { text: format!("{op}("), result: String::new() }
    }

    /// With a number or truth value.
    pub(crate) fn with(mut self, argument: impl Display) -> LogEntry {
        self.separate();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{argument}");
        self
    }

    /// With bytes: what is no printable ASCII, or has a meaning here, as `%XX`.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> LogEntry {
        self.separate();
        for byte in bytes {
            match byte {
                b',' | b'%' | b'(' | b')' | b'"' | b'\\' | 0..32 | 127.. => {
                    let _ = write!(self.text, "%{byte:02X}");
                }
                plain => self.text.push(char::from(*plain)),
            }
        }
        self
    }

    /// With what the operation gave.
    pub(crate) fn result(mut self, result: impl Display) -> LogEntry {
        self.result = format!(":{result}");
        self
    }

    /// Every first argument is a number or a name, never empty.
    fn separate(&mut self) {
        if !self.text.ends_with('(') {
            self.text.push(',');
        }
    }
}

/// One client's transactions, numbered as they are logged.
#[derive(Debug, Default)]
pub(crate) struct LogWriter {
    /// The client's session; 0 for tools, and before there is one.
    sid: AtomicU64,
    count: AtomicU64,
}

impl LogWriter {
    /// From now on this is session `sid`.
    pub(crate) fn joined(&self, sid: u64) {
        self.sid.store(sid, Ordering::Relaxed);
    }

    /// Appends what `entry` says to the volume's log, if `settings` want one. A transaction that is tried again takes a new number.
    pub(crate) async fn append(
        &self,
        txn: &dyn Txn,
        settings: &Settings,
        now: Time,
        entry: impl FnOnce() -> LogEntry + Send,
    ) -> Result<(), MetaError> {
        if !settings.change_log {
            return Ok(());
        }
        let LogEntry { text, result } = entry();
        let (sid, count) = (self.sid.load(Ordering::Relaxed), self.count.fetch_add(1, Ordering::Relaxed) + 1);
        let line = format!("{}.{:09}|{text}){result}|({sid},{count})", now.secs, now.nanos);
        txn.append_change(&line).await
    }
}

/// When an entry was written, in seconds since 1970; `None` for what is no entry.
pub(crate) fn logged_at(entry: &str) -> Option<i64> {
    entry.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: LogEntry) -> String {
        format!("{}){}", entry.text, entry.result)
    }

    #[test]
    fn entries_are_written_as_by_real_clients() {
        let entry = LogEntry::new("CREATE").with(1).bytes("a b%c,(d)\"\\é".as_bytes()).with(0).bytes(b"").with(true);
        assert_eq!(text(entry.result(7)), "CREATE(1,a b%25c%2C%28d%29%22%5C%C3%A9,0,,true):7");
        assert_eq!(text(LogEntry::new("INIT_ENABLE_DIRSTATS")), "INIT_ENABLE_DIRSTATS()");
        let entry = LogEntry::new("SETXATTR").with(6).bytes(b"user.k").bytes(b"w\0\xff\x7f").with(2);
        assert_eq!(text(entry), "SETXATTR(6,user.k,w%00%FF%7F,2)");
    }

    #[test]
    fn the_time_of_an_entry_is_read() {
        assert_eq!(logged_at("1795792645.584037258|INCR_COUNTER(nextSession,1)|(0,1)"), Some(1_795_792_645));
        assert_eq!(logged_at("soon"), None);
    }
}
