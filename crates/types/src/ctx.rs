//! What travels with every request: how urgent it is and how long it may take.

use std::fmt;
use std::time::{Duration, Instant};

/// Class of work: a lower class never delays a higher one for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// A program waits for these bytes.
    Foreground = 0,
    /// Completes a block somebody has read a part of.
    Fill = 1,
    /// Asked for ahead of use.
    WarmUp = 2,
    /// Scrubbing, mirroring, hand-over.
    Background = 3,
}

impl Class {
    /// Every class, most urgent first.
    pub const ALL: [Class; 4] = [Class::Foreground, Class::Fill, Class::WarmUp, Class::Background];

    /// The class's name as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Foreground => "foreground",
            Class::Fill => "fill",
            Class::WarmUp => "warm_up",
            Class::Background => "background",
        }
    }

    /// The class with wire number `n`, if there is one.
    pub const fn from_u8(n: u8) -> Option<Class> {
        match n {
            0 => Some(Class::Foreground),
            1 => Some(Class::Fill),
            2 => Some(Class::WarmUp),
            3 => Some(Class::Background),
            _ => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Context of one request.
#[derive(Debug, Clone, Copy)]
pub struct Ctx {
    /// How urgent the request is.
    pub class: Class,
    /// When the answer stops being useful; `None` waits as long as each tier's own timeouts do.
    pub deadline: Option<Instant>,
}

impl Ctx {
    /// A context of `class` without a deadline.
    pub const fn new(class: Class) -> Ctx {
        Ctx { class, deadline: None }
    }

    /// A program waits for the answer.
    pub const fn foreground() -> Ctx {
        Ctx::new(Class::Foreground)
    }

    /// Warm-up work.
    pub const fn warm_up() -> Ctx {
        Ctx::new(Class::WarmUp)
    }

    /// The same context with a deadline.
    pub fn with_deadline(self, deadline: Instant) -> Ctx {
        Ctx { deadline: Some(deadline), ..self }
    }

    /// Time left at `now`, or `fallback` when there is no deadline.
    pub fn left(&self, now: Instant, fallback: Duration) -> Duration {
        self.deadline.map_or(fallback, |deadline| deadline.saturating_duration_since(now))
    }
}
