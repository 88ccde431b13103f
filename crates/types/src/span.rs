//! Lengths of time as people write them: `90s`, `5m`, `1h`, `250ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time that reads and prints with a unit; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "SpanText", into = "String")]
pub struct Span(pub Duration);

/// A text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write a number with ms, s, m, h or d, such as 90s or 5m")]
pub struct ParseSpanError(String);

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum SpanText {
    Seconds(u32),
    Text(String),
}

impl TryFrom<SpanText> for Span {
    type Error = ParseSpanError;
    fn try_from(value: SpanText) -> Result<Self, Self::Error> {
        match value {
            SpanText::Seconds(seconds) => Ok(Span(Duration::from_secs(seconds.into()))),
            SpanText::Text(text) => text.parse(),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// Units and their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSpanError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim();
        let (_, millis) = match unit {
            "" => ("s", 1000),
            unit => *UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?,
        };
        let value: f64 = number.parse().map_err(|_| bad())?;
        Duration::try_from_secs_f64(value * millis as f64 / 1000.0).map(Span).map_err(|_| bad())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        let whole = UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
        match whole {
            Some((name, unit)) => write!(f, "{}{name}", millis / unit),
            None => f.write_str("0s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_parse_and_print() {
        for (text, millis, shown) in [
            ("0", 0, "0s"),
            ("90", 90_000, "90s"),
            ("5m", 300_000, "5m"),
            ("1.5h", 5_400_000, "90m"),
            ("250 ms", 250, "250ms"),
            ("2d", 172_800_000, "2d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), shown);
            assert_eq!(shown.parse(), Ok(span));
        }
        for text in ["", "m", "5 minutes", "-1s", "1.2.3s", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
