//! Logs: structured lines on standard error.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// The least important line that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// We coped.
    Warn,
    /// State changes of node, ring and volume.
    #[default]
    Info,
    /// One line for each request.
    Debug,
    /// One line for each block.
    Trace,
}

/// A log level that is none of the five.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log level `{0}` is none of error, warn, info, debug, trace")]
pub struct ParseLogLevelError(String);

impl LogLevel {
    const ALL: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// The level's name as configuration spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = ParseLogLevelError;

    fn from_str(text: &str) -> Result<LogLevel, ParseLogLevelError> {
        let found = LogLevel::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| ParseLogLevelError(text.to_owned()))
    }
}

/// Sends the process's log lines to standard error, from `level` up; libraries speak only at `warn` and above.
///
/// A non-empty `RUST_LOG` replaces the filter, e.g. `RUST_LOG=shoal_net=trace,quinn=debug`. Colours only on a terminal. The first
/// call wins, later ones change nothing.
pub fn init(level: LogLevel) {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), level);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A test or a bench starts several nodes in one process: the first logger serves all.
    let _ = subscriber.try_init();
}

/// `error` and its causes as one line for a person, outermost first. A cause whose words are already there is not said again.
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut text = String::new();
    for cause in causes {
        let words = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
    }
    text
}

fn filter(wanted: Option<&str>, level: LogLevel) -> EnvFilter {
    let ours = match level {
        LogLevel::Error => "error".to_owned(),
        _ => format!("warn,shoal={level}"),
    };
    match wanted.filter(|text| !text.is_empty()) {
        Some(text) => EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new(ours)),
        None => EnvFilter::new(ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_parse_as_they_print() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(level.to_string().to_uppercase().parse(), Ok(level));
        }
        let error = "loud".parse::<LogLevel>().unwrap_err();
        assert_eq!(error.to_string(), "log level `loud` is none of error, warn, info, debug, trace");
        assert_eq!(LogLevel::default(), LogLevel::Info);
    }

    #[test]
    fn a_sentence_is_one_line_and_says_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open {0}: no\nroom")]
        struct Outer(&'static str, #[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("no room")]
        struct Inner(#[source] std::io::Error);
        let error = Outer("x", Inner(std::io::Error::other("disk full")));
        assert_eq!(sentence(&error), "cannot open x: no room: disk full");
    }

    #[test]
    fn rust_log_wins_and_nonsense_in_it_does_not() {
        assert_eq!(filter(None, LogLevel::Debug).to_string(), "shoal=debug,warn");
        assert_eq!(filter(Some(""), LogLevel::Error).to_string(), "error");
        assert_eq!(filter(Some("shoal_net=trace"), LogLevel::Info).to_string(), "shoal_net=trace");
        assert_eq!(filter(Some("a=b=c=d"), LogLevel::Info).to_string(), "shoal=info,warn");
    }
}
