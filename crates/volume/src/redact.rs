//! Metadata URLs without their passwords.

/// `url` with its password replaced, for messages and files others may read.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return url.to_owned() };
    let user = rest[..at].split(':').next().unwrap_or_default();
    match rest[..at].contains(':') {
        true => format!("{scheme}://{user}:****{}", &rest[at..]),
        false => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_reach_messages() {
        assert_eq!(redact("redis://:secret@host:6379/1"), "redis://:****@host:6379/1");
        assert_eq!(redact("mysql://user:pa@ss@(host:3306)/db"), "mysql://user:****@(host:3306)/db");
        assert_eq!(redact("sqlite3:///tmp/a@b:c.db"), "sqlite3:///tmp/a@b:c.db");
        assert_eq!(redact("nonsense"), "nonsense");
    }
}
