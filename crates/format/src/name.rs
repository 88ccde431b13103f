//! Volume names: they prefix every object key, so the format keeps them plain.

use crate::error::FormatError;

/// Checks a volume name against the format's rule: 3 to 63 of `a-z`, `0-9` and `-`, no dash at either end.
///
/// For new volumes; one that exists under another name is still read.
pub fn validate_name(name: &str) -> Result<(), FormatError> {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ok = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric);
    if ok { Ok(()) } else { Err(FormatError::Name { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_format() {
        for good in ["abc", "a-b", "0a9", "vol-shard", &"a".repeat(63)] {
            assert!(validate_name(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "-ab", "ab-", "Abc", "a_b", "a.b", "a/b", "äbc", &"a".repeat(64)] {
            assert!(validate_name(bad).is_err(), "{bad}");
        }
    }
}
