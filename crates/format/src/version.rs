//! Client versions, and which volumes a client of ours may open.

use std::cmp::Ordering;
use std::fmt;

use crate::error::FormatError;
use crate::settings::{META_VERSION, Settings};

/// What a client does with a volume, which decides the feature level it may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRole {
    /// Only reads: tiers, quotas and the change log oblige writers alone.
    ReadOnly,
    /// Changes metadata and writes objects.
    Writer,
}

/// The version a read-only client claims: everything a reader of 1.4 volumes needs is there.
pub const READER_LEVEL: &str = "1.4.0";

/// The version a writer claims. What later versions oblige writers to and this one does not maintain is refused by name.
pub const WRITER_LEVEL: &str = "1.4.0";

impl ClientRole {
    /// The feature level a client in this role claims.
    pub const fn level(self) -> &'static str {
        match self {
            ClientRole::ReadOnly => READER_LEVEL,
            ClientRole::Writer => WRITER_LEVEL,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            ClientRole::ReadOnly => "reader",
            ClientRole::Writer => "writer",
        }
    }
}

/// `major[.minor[.patch]][-pre][+build]`, ordered as real clients order it: build ignored, pre-releases below their release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: String,
}

impl Version {
    /// Reads a version; `None` if `text` is none.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.split_once('+').map_or(text, |(version, _build)| version);
        let (numbers, pre) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = numbers.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        });
        let numbers = [parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?];
        parts.next().is_none().then(|| Version { numbers, pre: pre.to_owned() })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // Having a pre-release text makes a version lower, so "has none" compares first.
        let rank = |version: &Version| version.pre.is_empty();
        let numbers = self.numbers.cmp(&other.numbers);
        numbers.then_with(|| rank(self).cmp(&rank(other))).then_with(|| self.pre.as_bytes().cmp(other.pre.as_bytes()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.pre.is_empty() { Ok(()) } else { write!(f, "-{}", self.pre) }
    }
}

impl Settings {
    /// Whether this client may read the volume. See [`Settings::check_client_as`].
    pub fn check_client(&self) -> Result<(), FormatError> {
        self.check_client_as(ClientRole::ReadOnly)
    }

    /// Whether this client may open the volume in `role`.
    ///
    /// Errors: `Denied`, with a sentence for the user, if the metadata is newer than we know, if the volume's limits on
    /// client versions exclude the level we claim, or if writers must maintain something we do not.
    pub fn check_client_as(&self, role: ClientRole) -> Result<(), FormatError> {
        check_meta_version(&self.name, self.meta_version)?;
        let ours = Version::parse(role.level());
        let limit = |text: &str| match (text, Version::parse(text)) {
            ("", _) => Ok(None),
            (_, Some(version)) => Ok(Some(version)),
            _ => Err(FormatError::ClientVersion { volume: self.name.clone(), text: text.to_owned() }),
        };
        let too = |text: &str| (self.name.clone(), text.to_owned(), role.level(), role.as_str());
        if limit(&self.min_client_version)?.is_some_and(|min| ours < Some(min)) {
            let (volume, wanted, ours, role) = too(&self.min_client_version);
            return Err(FormatError::ClientTooOld { volume, wanted, ours, role });
        }
        if limit(&self.max_client_version)?.is_some_and(|max| ours > Some(max)) {
            let (volume, wanted, ours, role) = too(&self.max_client_version);
            return Err(FormatError::ClientTooNew { volume, wanted, ours, role });
        }
        match role {
            ClientRole::ReadOnly => Ok(()),
            ClientRole::Writer => self.check_writer_features(),
        }
    }

    /// Features that oblige every writer and are not tied to a client version by the format.
    fn check_writer_features(&self) -> Result<(), FormatError> {
        let features =
            [(!self.ranger_service.is_empty(), "Ranger's permissions"), (!self.kerb_conf.is_empty(), "Kerberos")];
        match features.into_iter().find(|(on, _)| *on) {
            Some((_, feature)) => Err(FormatError::WriterFeature { volume: self.name.clone(), feature }),
            None => Ok(()),
        }
    }
}

/// Refuses metadata of a newer layout than ours.
pub(crate) fn check_meta_version(volume: &str, version: i64) -> Result<(), FormatError> {
    if version > META_VERSION {
        return Err(FormatError::MetaVersion { volume: volume.to_owned(), version, known: META_VERSION });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_types::ErrorKind;

    fn volume(min: &str, max: &str) -> Settings {
        let mut settings = Settings::new("train", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
        settings.min_client_version = min.into();
        settings.max_client_version = max.into();
        settings
    }

    #[test]
    fn versions_order_as_the_format_says() {
        let order = ["0.9.9", "1.0.0-A", "1.0.0-B", "1.0.0-a", "1.0.0", "1.1.0-A", "1.1.0", "1.10.0", "2.0.0"];
        let parsed: Vec<_> = order.iter().map(|text| Version::parse(text).unwrap()).collect();
        assert!(parsed.is_sorted_by(|a, b| a < b));
        assert_eq!(Version::parse("1.4.0+2026.abc-x"), Version::parse("1.4.0"));
        assert_eq!(Version::parse("1.3"), Version::parse("1.3.0"));
        assert_eq!(Version::parse("1"), Version::parse("1.0.0"));
        for bad in ["", "1.", "1.x", "1.2.x", "1.2.3 ", "1.2.3.4", "v1.2.3", "1..2", "+1.2.3", "-1.2.3"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn readers_open_what_real_1_4_volumes_ask() {
        for (min, max) in [("", ""), ("1.1.0-A", ""), ("1.4.0-A", ""), ("1.4.0", "1.4.0"), ("", "1.5.0")] {
            volume(min, max).check_client().unwrap();
        }
    }

    #[test]
    fn refusals_name_the_volume_and_the_version() {
        let cases = [
            (volume("1.5.0-A", ""), "volume `train` wants client 1.5.0-A or newer"),
            (volume("", "1.3.9"), "volume `train` wants client 1.3.9 or older"),
            (volume("soon", ""), "volume `train` limits clients to version `soon`"),
            (Settings { meta_version: 2, ..volume("", "") }, "volume `train` has metadata version 2"),
        ];
        for (settings, start) in cases {
            let error = settings.check_client().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().starts_with(start), "{error}");
        }
    }

    #[test]
    fn writers_claim_less_than_readers() {
        volume("1.1.0-A", "").check_client_as(ClientRole::Writer).unwrap();
        let more = Settings { enable_acl: true, user_group_quota: true, change_log: true, ..volume("", "") };
        more.check_client_as(ClientRole::Writer).unwrap();
        volume("1.4.0-A", "").check_client_as(ClientRole::Writer).unwrap();
        for settings in [
            Settings { ranger_service: "s".into(), ..volume("", "") },
            Settings { kerb_conf: "k".into(), ..volume("", "") },
        ] {
            settings.check_client().unwrap();
            assert_eq!(settings.check_client_as(ClientRole::Writer).unwrap_err().kind(), ErrorKind::Denied);
        }
    }
}
