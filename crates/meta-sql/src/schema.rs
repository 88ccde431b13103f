//! The schema as the real client creates it on SQLite (dumped from version 1.4.2; spec section 22).

/// Tables and indexes in the order the real client creates them. `@` stands for the table prefix.
pub(crate) const DDL: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS `@setting` (`name` TEXT PRIMARY KEY NOT NULL, `value` TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@counter` (`name` TEXT PRIMARY KEY NOT NULL, `value` INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@edge` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `parent` INTEGER NOT NULL, \
     `name` BLOB NOT NULL, `inode` INTEGER NOT NULL, `type` INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS `UQE_@edge_edge` ON `@edge` (`parent`,`name`)",
    "CREATE INDEX IF NOT EXISTS `IDX_@edge_inode` ON `@edge` (`inode`)",
    "CREATE TABLE IF NOT EXISTS `@node` (`inode` INTEGER PRIMARY KEY NOT NULL, `type` INTEGER NOT NULL, `flags` INTEGER \
     NOT NULL, `mode` INTEGER NOT NULL, `uid` INTEGER NOT NULL, `gid` INTEGER NOT NULL, `atime` INTEGER NOT NULL, \
     `mtime` INTEGER NOT NULL, `ctime` INTEGER NOT NULL, `atimensec` INTEGER DEFAULT 0 NOT NULL, `mtimensec` INTEGER \
     DEFAULT 0 NOT NULL, `ctimensec` INTEGER DEFAULT 0 NOT NULL, `nlink` INTEGER NOT NULL, `length` INTEGER NOT NULL, \
     `rdev` INTEGER NULL, `parent` INTEGER NULL, `access_acl_id` INTEGER NULL, `default_acl_id` INTEGER NULL, `tier_id` \
     INTEGER NULL)",
    "CREATE TABLE IF NOT EXISTS `@symlink` (`inode` INTEGER PRIMARY KEY NOT NULL, `target` BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@xattr` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `inode` INTEGER NOT NULL, \
     `name` TEXT NOT NULL, `value` BLOB NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS `UQE_@xattr_name` ON `@xattr` (`inode`,`name`)",
    "CREATE TABLE IF NOT EXISTS `@chunk` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `inode` INTEGER NOT NULL, \
     `indx` INTEGER NOT NULL, `slices` BLOB NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS `UQE_@chunk_chunk` ON `@chunk` (`inode`,`indx`)",
    "CREATE TABLE IF NOT EXISTS `@chunk_ref` (`chunkid` INTEGER PRIMARY KEY NOT NULL, `size` INTEGER NOT NULL, `refs` \
     INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS `IDX_@chunk_ref_refs` ON `@chunk_ref` (`refs`)",
    "CREATE TABLE IF NOT EXISTS `@delslices` (`chunkid` INTEGER PRIMARY KEY NOT NULL, `deleted` INTEGER NOT NULL, \
     `slices` BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@session2` (`sid` INTEGER PRIMARY KEY NOT NULL, `expire` INTEGER NOT NULL, `info` BLOB \
     NULL)",
    "CREATE TABLE IF NOT EXISTS `@sustained` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `sid` INTEGER NOT NULL, \
     `inode` INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS `UQE_@sustained_sustained` ON `@sustained` (`sid`,`inode`)",
    "CREATE TABLE IF NOT EXISTS `@delfile` (`inode` INTEGER PRIMARY KEY NOT NULL, `length` INTEGER NOT NULL, `expire` \
     INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@flock` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `inode` INTEGER NOT NULL, \
     `sid` INTEGER NOT NULL, `owner` INTEGER NOT NULL, `ltype` INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS `UQE_@flock_flock` ON `@flock` (`inode`,`sid`,`owner`)",
    "CREATE TABLE IF NOT EXISTS `@plock` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `inode` INTEGER NOT NULL, \
     `sid` INTEGER NOT NULL, `owner` INTEGER NOT NULL, `records` BLOB NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS `UQE_@plock_plock` ON `@plock` (`inode`,`sid`,`owner`)",
    "CREATE TABLE IF NOT EXISTS `@dir_quota` (`inode` INTEGER PRIMARY KEY NOT NULL, `max_space` INTEGER NOT NULL, \
     `max_inodes` INTEGER NOT NULL, `used_space` INTEGER NOT NULL, `used_inodes` INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@user_group_quota` (`qtype` INTEGER NOT NULL, `qkey` INTEGER NOT NULL, `max_space` \
     INTEGER NOT NULL, `max_inodes` INTEGER NOT NULL, `used_space` INTEGER NOT NULL, `used_inodes` INTEGER NOT NULL, \
     PRIMARY KEY ( `qtype`,`qkey` ))",
    "CREATE TABLE IF NOT EXISTS `@dir_stats` (`inode` INTEGER PRIMARY KEY NOT NULL, `data_length` INTEGER NOT NULL, \
     `used_space` INTEGER NOT NULL, `used_inodes` INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@detached_node` (`inode` INTEGER PRIMARY KEY NOT NULL, `added` INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS `@acl` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `owner` INTEGER NULL, `group` \
     INTEGER NULL, `mask` INTEGER NULL, `other` INTEGER NULL, `named_users` BLOB NULL, `named_groups` BLOB NULL)",
    "CREATE TABLE IF NOT EXISTS `@delegation_token` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `token` BLOB NULL)",
    "CREATE TABLE IF NOT EXISTS `@change_log` (`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, `entry` TEXT NOT NULL)",
];

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
