//! The schema as the real client 1.4.2 creates it on each database (dumped from its volumes; spec section 22).

use crate::dialect::Dialect;

/// Inodes one statement asks for; shorter lists repeat their last, so that one text is prepared.
pub(crate) const ATTRS_PER_QUERY: usize = 64;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number the database hands out, 64 or 32 bits.
    Serial,
    SmallSerial,
    /// 64 bits, or nothing.
    Big,
    BigOrNull,
    /// 32 bits.
    Int,
    /// 32 bits that columns of older volumes lack.
    IntOrZero,
    /// 32 bits or nothing.
    IntOrNull,
    /// A short text.
    Name,
    Text,
    Bytes,
    BytesOrNull,
    /// At most 255, and at most 4096 bytes.
    NameBytes,
    TargetBytes,
}

use Kind::{
    Big, BigOrNull, Bytes, BytesOrNull, Int, IntOrNull, IntOrZero, Name, NameBytes, Serial, SmallSerial, TargetBytes,
    Text,
};

struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
    /// How many of the first columns are its primary key.
    key: usize,
    /// A further unique key: the end of its name, and its columns.
    unique: Option<(&'static str, &'static [&'static str])>,
    /// An index on one column.
    index: Option<&'static str>,
}

const fn table(name: &'static str, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, columns, key: 1, unique: None, index: None }
}

/// Every table, in the order the real client creates them.
const TABLES: &[Table] = &[
    table("setting", &[("name", Name), ("value", Text)]),
    table("counter", &[("name", Name), ("value", Big)]),
    Table {
        unique: Some(("edge", &["parent", "name"])),
        index: Some("inode"),
        ..table("edge", &[("id", Serial), ("parent", Big), ("name", NameBytes), ("inode", Big), ("type", Int)])
    },
    table(
        "node",
        &[
            ("inode", Big),
            ("type", Int),
            ("flags", Int),
            ("mode", Int),
            ("uid", Int),
            ("gid", Int),
            ("atime", Big),
            ("mtime", Big),
            ("ctime", Big),
            ("atimensec", IntOrZero),
            ("mtimensec", IntOrZero),
            ("ctimensec", IntOrZero),
            ("nlink", Int),
            ("length", Big),
            ("rdev", IntOrNull),
            ("parent", BigOrNull),
            ("access_acl_id", IntOrNull),
            ("default_acl_id", IntOrNull),
            ("tier_id", IntOrNull),
        ],
    ),
    table("symlink", &[("inode", Big), ("target", TargetBytes)]),
    Table {
        unique: Some(("name", &["inode", "name"])),
        ..table("xattr", &[("id", Serial), ("inode", Big), ("name", Name), ("value", Bytes)])
    },
    Table {
        unique: Some(("chunk", &["inode", "indx"])),
        ..table("chunk", &[("id", Serial), ("inode", Big), ("indx", Int), ("slices", Bytes)])
    },
    Table { index: Some("refs"), ..table("chunk_ref", &[("chunkid", Big), ("size", Int), ("refs", Int)]) },
    table("delslices", &[("chunkid", Big), ("deleted", Big), ("slices", Bytes)]),
    table("session2", &[("sid", Big), ("expire", Big), ("info", BytesOrNull)]),
    Table {
        unique: Some(("sustained", &["sid", "inode"])),
        ..table("sustained", &[("id", Serial), ("sid", Big), ("inode", Big)])
    },
    table("delfile", &[("inode", Big), ("length", Big), ("expire", Big)]),
    Table {
        unique: Some(("flock", &["inode", "sid", "owner"])),
        ..table("flock", &[("id", Serial), ("inode", Big), ("sid", Big), ("owner", Big), ("ltype", Int)])
    },
    Table {
        unique: Some(("plock", &["inode", "sid", "owner"])),
        ..table("plock", &[("id", Serial), ("inode", Big), ("sid", Big), ("owner", Big), ("records", Bytes)])
    },
    table(
        "dir_quota",
        &[("inode", Big), ("max_space", Big), ("max_inodes", Big), ("used_space", Big), ("used_inodes", Big)],
    ),
    Table {
        key: 2,
        ..table(
            "user_group_quota",
            &[
                ("qtype", Int),
                ("qkey", Big),
                ("max_space", Big),
                ("max_inodes", Big),
                ("used_space", Big),
                ("used_inodes", Big),
            ],
        )
    },
    table("dir_stats", &[("inode", Big), ("data_length", Big), ("used_space", Big), ("used_inodes", Big)]),
    table("detached_node", &[("inode", Big), ("added", Big)]),
    table(
        "acl",
        &[
            ("id", SmallSerial),
            ("owner", IntOrNull),
            ("group", IntOrNull),
            ("mask", IntOrNull),
            ("other", IntOrNull),
            ("named_users", BytesOrNull),
            ("named_groups", BytesOrNull),
        ],
    ),
    table("delegation_token", &[("id", SmallSerial), ("token", BytesOrNull)]),
    table("change_log", &[("id", Serial), ("entry", Text)]),
];

/// Statements that create what is missing of the schema, for tables named `prefix` + name.
pub(crate) fn ddl(dialect: Dialect, prefix: &str) -> Vec<String> {
    TABLES.iter().flat_map(|table| table.ddl(dialect, prefix)).collect()
}

/// Statements that remove the schema with everything in it.
pub(crate) fn drops(dialect: Dialect, prefix: &str) -> Vec<String> {
    table_names().map(|name| dialect.text(&format!("DROP TABLE IF EXISTS `{prefix}{name}`"))).collect()
}

/// Names of every table.
pub(crate) fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

impl Table {
    fn ddl(&self, dialect: Dialect, prefix: &str) -> Vec<String> {
        let name = format!("{prefix}{}", self.name);
        let mut parts: Vec<String> = Vec::with_capacity(self.columns.len() + 3);
        for (n, (column, kind)) in self.columns.iter().enumerate() {
            let key = if n == 0 && self.key == 1 { " PRIMARY KEY" } else { "" };
            parts.push(format!("`{column}` {}", kind.sql(dialect).replacen('@', key, 1)));
        }
        if self.key > 1 {
            let columns = self.columns[..self.key].iter().map(|(column, _)| *column).collect::<Vec<_>>();
            parts.push(format!("PRIMARY KEY ( {} )", quoted(&columns)));
        }
        let unique = self.unique.map(|(end, columns)| (format!("UQE_{name}_{end}"), quoted(columns)));
        let index = self.index.map(|column| (format!("IDX_{name}_{column}"), quoted(&[column])));
        if dialect == Dialect::MySql {
            // An index of an existing table cannot be created "if not exists" there.
            parts.extend(unique.map(|(key, columns)| format!("UNIQUE KEY `{key}` ({columns})")));
            parts.extend(index.map(|(key, columns)| format!("KEY `{key}` ({columns})")));
            return vec![format!("CREATE TABLE IF NOT EXISTS `{name}` ({})", parts.join(", "))];
        }
        let mut all = vec![format!("CREATE TABLE IF NOT EXISTS `{name}` ({})", parts.join(", "))];
        let on = |what: &str, key: String, columns: String| {
            format!("CREATE {what} IF NOT EXISTS `{key}` ON `{name}` ({columns})")
        };
        all.extend(unique.map(|(key, columns)| on("UNIQUE INDEX", key, columns)));
        all.extend(index.map(|(key, columns)| on("INDEX", key, columns)));
        all.into_iter().map(|text| dialect.text(&text)).collect()
    }
}

fn quoted(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(",")
}

impl Kind {
    /// Its type, with `@` where a primary key says so.
    fn sql(self, dialect: Dialect) -> &'static str {
        match (dialect, self) {
            (Dialect::Sqlite, Serial | SmallSerial) => "INTEGER@ AUTOINCREMENT NOT NULL",
            (Dialect::Sqlite, Big | Int) => "INTEGER@ NOT NULL",
            (Dialect::Sqlite, IntOrZero) => "INTEGER DEFAULT 0 NOT NULL",
            (Dialect::Sqlite, IntOrNull | BigOrNull) => "INTEGER NULL",
            (Dialect::Sqlite, Name | Text) => "TEXT@ NOT NULL",
            (Dialect::Sqlite, Bytes | NameBytes | TargetBytes) => "BLOB NOT NULL",
            (Dialect::Sqlite, BytesOrNull) => "BLOB NULL",
            (Dialect::Postgres, Serial) => "BIGSERIAL@ NOT NULL",
            (Dialect::Postgres, SmallSerial) => "SERIAL@ NOT NULL",
            (Dialect::MySql, Serial) => "BIGINT@ AUTO_INCREMENT NOT NULL",
            (Dialect::MySql, SmallSerial) => "INT@ AUTO_INCREMENT NOT NULL",
            (_, Big) => "BIGINT@ NOT NULL",
            (_, BigOrNull) => "BIGINT NULL",
            (_, Int) => "INTEGER@ NOT NULL",
            (_, IntOrZero) => "INTEGER DEFAULT 0 NOT NULL",
            (_, IntOrNull) => "INTEGER NULL",
            (_, Name) => "VARCHAR(255)@ NOT NULL",
            (_, Text) => "TEXT NOT NULL",
            (Dialect::Postgres, Bytes | NameBytes | TargetBytes) => "BYTEA NOT NULL",
            (Dialect::Postgres, BytesOrNull) => "BYTEA NULL",
            (Dialect::MySql, Bytes) => "BLOB NOT NULL",
            (Dialect::MySql, BytesOrNull) => "BLOB NULL",
            (Dialect::MySql, NameBytes) => "VARBINARY(255) NOT NULL",
            (Dialect::MySql, TargetBytes) => "VARBINARY(4096) NOT NULL",
        }
    }
}

/// Counters a new volume starts with (spec section 22); the others appear on first use.
pub(crate) const FIRST_COUNTERS: &[(&str, i64)] = &[
    ("nextInode", 2),
    ("nextChunk", 1),
    ("nextSession", 0),
    ("usedSpace", 0),
    ("totalInodes", 0),
    ("nextCleanupSlices", 0),
];

/// Columns of the attribute table in the order rows are decoded and bound.
pub(crate) const NODE_COLUMNS: [&str; 19] = [
    "inode",
    "type",
    "flags",
    "mode",
    "uid",
    "gid",
    "atime",
    "atimensec",
    "mtime",
    "mtimensec",
    "ctime",
    "ctimensec",
    "nlink",
    "length",
    "rdev",
    "parent",
    "access_acl_id",
    "default_acl_id",
    "tier_id",
];

/// Columns that volumes of older clients may lack or hold NULL in; both mean zero.
const OPTIONAL_COLUMNS: [&str; 8] =
    ["atimensec", "mtimensec", "ctimensec", "rdev", "parent", "access_acl_id", "default_acl_id", "tier_id"];

/// The select list of an attribute in table alias `n`, given the columns the table really has.
pub(crate) fn node_select(present: &[String]) -> String {
    let expression = |column: &&str| match (OPTIONAL_COLUMNS.contains(column), present.iter().any(|p| p == column)) {
        (true, true) => format!("COALESCE(n.{column},0)"),
        (true, false) => "0".to_owned(),
        (false, _) => format!("n.{column}"),
    };
    NODE_COLUMNS.iter().map(expression).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_an_old_volume_lacks_read_as_zero() {
        let all: Vec<String> = NODE_COLUMNS.iter().map(ToString::to_string).collect();
        let old: Vec<String> = all.iter().filter(|c| !c.ends_with("nsec") && *c != "tier_id").cloned().collect();
        assert!(node_select(&all).ends_with("COALESCE(n.tier_id,0)"));
        assert!(node_select(&old).ends_with("COALESCE(n.default_acl_id,0),0"));
        assert!(node_select(&old).contains("n.mtime,0,n.ctime,0"));
    }
}
