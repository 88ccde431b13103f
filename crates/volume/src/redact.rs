//! Metadata URLs without their passwords.

/// `url` with its password replaced, for messages and files others may read.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (rest, query) = rest.split_at(options_start(scheme, rest));
    let query = without_password(query);
    // MySQL's passwords stand as they are, slashes and all: its database begins at the last one.
    let authority = if scheme == "mysql" { rest.rfind('/') } else { rest.find('/') }.unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return format!("{scheme}://{rest}{query}") };
    let user = rest[..at].split(':').next().unwrap_or_default();
    match rest[..at].contains(':') {
        true => format!("{scheme}://{user}:****{}{query}", &rest[at..]),
        false => format!("{scheme}://{rest}{query}"),
    }
}

/// Where the options begin, with their `?`.
fn options_start(scheme: &str, rest: &str) -> usize {
    let database = if scheme == "mysql" { rest.rfind('/').unwrap_or(0) } else { 0 };
    rest[database..].find('?').map_or(rest.len(), |at| database + at)
}

/// PostgreSQL takes the password as an option, too.
fn without_password(query: &str) -> String {
    let option = |option: &str| match option.trim_start_matches('?').starts_with("password=") {
        true => format!("{}password=****", if option.starts_with('?') { "?" } else { "" }),
        false => option.to_owned(),
    };
    query.split('&').map(option).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_reach_messages() {
        assert_eq!(redact("redis://:secret@host:6379/1"), "redis://:****@host:6379/1");
        assert_eq!(redact("mysql://user:pa@ss@(host:3306)/db"), "mysql://user:****@(host:3306)/db");
        assert_eq!(redact("mysql://u:a/b?c@(host:3306)/db?tls=true"), "mysql://u:****@(host:3306)/db?tls=true");
        assert_eq!(redact("postgres://u:p@h/db?sslmode=disable"), "postgres://u:****@h/db?sslmode=disable");
        assert_eq!(redact("postgres://u@/db?password=p&host=/run"), "postgres://u@/db?password=****&host=/run");
        assert_eq!(redact("sqlite3:///tmp/a@b:c.db"), "sqlite3:///tmp/a@b:c.db");
        assert_eq!(redact("nonsense"), "nonsense");
    }
}
