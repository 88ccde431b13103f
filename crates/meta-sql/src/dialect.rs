//! What the SQL of the three databases calls differently.
//!
//! Statements are written once, in SQLite's words and within a few constructs, and [`Dialect::text`] says them in another
//! database's: parameters `?`, names in backticks, `CAST(x AS BLOB)` where the schema's byte columns may hold text,
//! `CAST(? AS TEXT)` for bytes that a text column takes, `a||b` of bytes, `ON CONFLICT(k) DO UPDATE SET c=excluded.c` with `k` a unique
//! key, `ON CONFLICT(k) DO NOTHING`, `FOR UPDATE` or `FOR KEY SHARE` at the end, and
//! `UPDATE t SET value=value+? WHERE k RETURNING value` or `INSERT ... RETURNING id` (asked for as `Want::Counted`). An old value in an upsert is qualified by its table, as PostgreSQL
//! demands. No statement holds any of these in a literal.

/// A parameter that a text column takes. MySQL's would compare equal in either case of letters.
const AS_TEXT: &str = "CAST(? AS TEXT)";

/// A lock that others may hold too; PostgreSQL's lets the row change but not go.
const SHARED: &str = " FOR KEY SHARE";

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    /// MySQL and MariaDB, with `||` joining strings (the driver sets that mode).
    MySql,
}

impl Dialect {
    /// True if a text column takes these bytes: on the servers it holds characters.
    pub(crate) fn is_text(self, bytes: &[u8]) -> bool {
        self == Dialect::Sqlite || std::str::from_utf8(bytes).is_ok()
    }

    /// A statement in this database's words.
    pub(crate) fn text(self, text: &str) -> String {
        match self {
            Dialect::Sqlite => text.replace(" FOR UPDATE", "").replace(SHARED, ""),
            Dialect::Postgres => numbered(&without_casts(text).replace('`', "\"")),
            Dialect::MySql => {
                let text = text.replace(AS_TEXT, "? COLLATE utf8mb4_bin").replace(SHARED, " LOCK IN SHARE MODE");
                on_duplicate_key(&counted(&without_casts(&text)))
            }
        }
    }
}

/// `?` becomes `$1`, `$2` and so on.
fn numbered(text: &str) -> String {
    let mut parts = text.split('?');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (n, part) in parts.enumerate() {
        out.push_str(&format!("${}{part}", n + 1));
    }
    out
}

/// `CAST(x AS BLOB)` and `CAST(x AS TEXT)` become `x`: only SQLite's columns hold other types than they are declared with.
fn without_casts(text: &str) -> String {
    let Some((before, rest)) = text.split_once("CAST(") else { return text.to_owned() };
    let end = [" AS BLOB)", " AS TEXT)"].iter().filter_map(|end| rest.find(end).map(|at| (at, end.len()))).min();
    let (at, length) = end.expect("every cast of the statements is to BLOB or TEXT");
    format!("{before}{}{}", &rest[..at], without_casts(&rest[at + length..]))
}

/// `value=value+? ... RETURNING value` counts by `LAST_INSERT_ID`, whose last value comes with the answer; that of an insert is the new
/// row's id anyway.
fn counted(text: &str) -> String {
    let text = text.strip_suffix(" RETURNING id").unwrap_or(text);
    match text.strip_suffix(" RETURNING value") {
        Some(update) => update.replace("value=value+?", "value=LAST_INSERT_ID(value+?)"),
        None => text.to_owned(),
    }
}

/// `ON CONFLICT` becomes `ON DUPLICATE KEY UPDATE`.
fn on_duplicate_key(text: &str) -> String {
    let Some((before, rest)) = text.split_once("ON CONFLICT(") else { return text.to_owned() };
    let (keys, rest) = rest.split_once(") DO ").expect("a conflict has a key and a reaction");
    match rest.strip_prefix("UPDATE SET ") {
        Some(sets) => format!("{before}ON DUPLICATE KEY UPDATE {}", new_values(sets)),
        None => {
            let key = keys.split(',').next().unwrap_or(keys);
            format!("{before}ON DUPLICATE KEY UPDATE {key}={key}")
        }
    }
}

/// `excluded.c` becomes `VALUES(c)`.
fn new_values(sets: &str) -> String {
    let mut parts = sets.split("excluded.");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        out.push_str(&format!("VALUES({}){}", &part[..end], &part[end..]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> [String; 3] {
        [Dialect::Sqlite, Dialect::Postgres, Dialect::MySql].map(|dialect| dialect.text(text))
    }

    #[test]
    fn parameters_and_names() {
        let [sqlite, postgres, mysql] = all("SELECT `group`,mask FROM t WHERE a=? AND b IN (?,?)");
        assert_eq!(sqlite, "SELECT `group`,mask FROM t WHERE a=? AND b IN (?,?)");
        assert_eq!(postgres, "SELECT \"group\",mask FROM t WHERE a=$1 AND b IN ($2,$3)");
        assert_eq!(mysql, sqlite);
    }

    #[test]
    fn upserts() {
        let text = "INSERT INTO t(a,b,c) VALUES (?,CAST(? AS TEXT),?) ON CONFLICT(a,b) DO UPDATE SET c=CAST(t.c||excluded.c AS BLOB),d_e=excluded.d_e";
        let [sqlite, postgres, mysql] = all(text);
        assert_eq!(sqlite, text);
        assert_eq!(
            postgres,
            "INSERT INTO t(a,b,c) VALUES ($1,$2,$3) ON CONFLICT(a,b) DO UPDATE SET c=t.c||excluded.c,d_e=excluded.d_e"
        );
        assert_eq!(
            mysql,
            "INSERT INTO t(a,b,c) VALUES (?,? COLLATE utf8mb4_bin,?) ON DUPLICATE KEY UPDATE c=t.c||VALUES(c),d_e=VALUES(d_e)"
        );
        let [_, _, nothing] = all("INSERT INTO t(a,b) VALUES(?,?) ON CONFLICT(a,b) DO NOTHING");
        assert_eq!(nothing, "INSERT INTO t(a,b) VALUES(?,?) ON DUPLICATE KEY UPDATE a=a");
    }

    #[test]
    fn shared_locks() {
        let [sqlite, postgres, mysql] = all("SELECT a FROM t WHERE b=? FOR KEY SHARE");
        assert_eq!(sqlite, "SELECT a FROM t WHERE b=?");
        assert_eq!(postgres, "SELECT a FROM t WHERE b=$1 FOR KEY SHARE");
        assert_eq!(mysql, "SELECT a FROM t WHERE b=? LOCK IN SHARE MODE");
    }

    #[test]
    fn counters() {
        let [sqlite, _, mysql] = all("UPDATE t SET value=value+? WHERE name=? RETURNING value");
        assert_eq!(sqlite, "UPDATE t SET value=value+? WHERE name=? RETURNING value");
        assert_eq!(mysql, "UPDATE t SET value=LAST_INSERT_ID(value+?) WHERE name=?");
        let [_, postgres, mysql] = all("INSERT INTO t(`group`) VALUES(?) RETURNING id");
        assert_eq!(postgres, "INSERT INTO t(\"group\") VALUES($1) RETURNING id");
        assert_eq!(mysql, "INSERT INTO t(`group`) VALUES(?)");
    }

    #[test]
    fn locks_of_rows_are_left_to_databases_that_have_them() {
        let [sqlite, postgres, mysql] = all("SELECT a FROM t WHERE a=? FOR UPDATE");
        assert_eq!(sqlite, "SELECT a FROM t WHERE a=?");
        assert_eq!(postgres, "SELECT a FROM t WHERE a=$1 FOR UPDATE");
        assert_eq!(mysql, "SELECT a FROM t WHERE a=? FOR UPDATE");
    }
}
