//! Sizes as people write them: `4M`, `1.5GiB`, `100G`.
//!
//! Suffixes are binary in every spelling (`K`, `KB`, `KiB` = 1024), as JuiceFS reads its own flags.

use std::fmt;
use std::str::FromStr;

/// A number of bytes that reads and prints with a binary suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "SizeText", into = "String")]
pub struct ByteSize(pub u64);

/// A text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write bytes or a number with K, M, G, T or P, such as 512M")]
pub struct ParseByteSizeError(String);

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
}

impl TryFrom<SizeText> for ByteSize {
    type Error = ParseByteSizeError;
    fn try_from(value: SizeText) -> Result<Self, Self::Error> {
        match value {
            SizeText::Number(bytes) => Ok(ByteSize(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseByteSizeError(text.to_owned());
        let trimmed = text.trim().to_ascii_uppercase();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, suffix) = trimmed.split_at(digits);
        let shift = match suffix.trim().trim_end_matches("IB").trim_end_matches('B') {
            "" => 0,
            unit => {
                let mut chars = unit.chars();
                let first = chars.next().ok_or_else(bad)?;
                let power = UNITS.iter().position(|&u| u == first).ok_or_else(bad)?;
                if chars.next().is_some() {
                    return Err(bad());
                }
                10 * (power as u32 + 1)
            }
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1u64 << shift).map(ByteSize).ok_or_else(bad);
        }
        let value = number.parse::<f64>().map_err(|_| bad())? * (1u64 << shift) as f64;
        if value.is_finite() && (0.0..=u64::MAX as f64).contains(&value) {
            Ok(ByteSize(value as u64))
        } else {
            Err(bad())
        }
    }
}

impl ByteSize {
    /// The size as JuiceFS says it: `0 B`, `36 KiB`, `1.0 GiB`.
    pub fn iec(self) -> String {
        const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 1024.0 && unit + 1 < NAMES.len() {
            value /= 1024.0;
            unit += 1;
        }
        let rounded = (value * 10.0 + 0.5).floor() / 10.0;
        let digits = if unit > 0 && rounded < 10.0 { 1 } else { 0 };
        format!("{rounded:.digits$} {}", NAMES[unit])
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = None;
        for name in UNITS {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = Some(name);
        }
        match unit {
            None => write!(f, "{}B", self.0),
            Some(unit) if value.fract() == 0.0 => write!(f, "{value:.0}{unit}"),
            Some(unit) => write!(f, "{value:.1}{unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("4M", 4 << 20),
            ("4MiB", 4 << 20),
            ("4mb", 4 << 20),
            ("1.5G", 3 << 29),
            ("2 T", 2 << 40),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "M", "4X", "-1", "1.2.3", "4MM", "99999999999P", "NaN", "B"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_said_as_by_juicefs() {
        let cases = [
            (0, "0 B"),
            (9, "9 B"),
            (1023, "1023 B"),
            (4096, "4.0 KiB"),
            (36_864, "36 KiB"),
            (1_500_000, "1.4 MiB"),
            (1 << 30, "1.0 GiB"),
            (10 << 30, "10 GiB"),
        ];
        for (bytes, said) in cases {
            assert_eq!(ByteSize(bytes).iec(), said);
        }
    }

    #[test]
    fn sizes_print_short() {
        assert_eq!(ByteSize(4 << 20).to_string(), "4M");
        assert_eq!(ByteSize(1536).to_string(), "1.5K");
        assert_eq!(ByteSize(100).to_string(), "100B");
    }
}
