//! The text of statements that read whole tables, of those that read what belongs to many inodes, and of those that load a volume.

use std::sync::Arc;

use crate::dialect::Dialect;
use crate::insert::Insert;
use crate::schema::ATTRS_PER_QUERY;

/// Statements that scan and load.
///
/// Each page of a scan begins behind a number in an indexed column: the one its rows end with, or of attributes begin with.
#[derive(Debug)]
pub(crate) struct ScanStatements {
    pub(crate) attrs: Arc<str>,
    pub(crate) dentries: Arc<str>,
    pub(crate) chunks: Arc<str>,
    pub(crate) symlinks: Arc<str>,
    pub(crate) xattrs: Arc<str>,
    pub(crate) slice_refs: Arc<str>,
    pub(crate) delayed: Arc<str>,
    pub(crate) deleted_files: Arc<str>,
    pub(crate) sustained: Arc<str>,
    pub(crate) dir_usage: Arc<str>,
    pub(crate) acls: Arc<str>,
    pub(crate) symlinks_of: Arc<str>,
    pub(crate) xattrs_of: Arc<str>,
    pub(crate) chunks_of: Arc<str>,
    pub(crate) load_acls: Insert,
    /// Lets the ids of ACL rules go on behind those that were loaded. SQLite and MySQL do so by themselves.
    pub(crate) raise_acl_ids: Option<Arc<str>>,
}

impl ScanStatements {
    /// Statements whose text `sql` completes, and inserts whose parts `insert` completes: `@` stands for the table prefix. `node` is the
    /// select list of attributes in table `n`.
    pub(crate) fn new(
        dialect: Dialect,
        node: &str,
        sql: impl Fn(&str) -> Arc<str>,
        insert: impl Fn(&str, &str, &str) -> Insert,
    ) -> ScanStatements {
        let marks = vec!["?"; ATTRS_PER_QUERY].join(",");
        let scan = |columns: &str, table: &str, key: &str| {
            sql(&format!("SELECT {columns},{key} FROM @{table} WHERE {key}>? ORDER BY {key} LIMIT ?"))
        };
        ScanStatements {
            attrs: sql(&format!("SELECT {node} FROM @node n WHERE n.inode>? ORDER BY n.inode LIMIT ?")),
            dentries: scan("name,inode,type,parent", "edge", "id"),
            chunks: scan("inode,indx,CAST(slices AS BLOB)", "chunk", "id"),
            symlinks: scan("CAST(target AS BLOB)", "symlink", "inode"),
            xattrs: scan("inode,CAST(name AS BLOB),CAST(value AS BLOB)", "xattr", "id"),
            slice_refs: scan("size,refs", "chunk_ref", "chunkid"),
            delayed: scan("deleted,CAST(slices AS BLOB)", "delslices", "chunkid"),
            deleted_files: scan("length,expire", "delfile", "inode"),
            sustained: scan("sid,inode", "sustained", "id"),
            dir_usage: scan("data_length,used_space,used_inodes", "dir_stats", "inode"),
            acls: scan("owner,`group`,mask,other,named_users,named_groups", "acl", "id"),
            symlinks_of: sql(&format!("SELECT inode,CAST(target AS BLOB) FROM @symlink WHERE inode IN ({marks})")),
            xattrs_of: sql(&format!(
                "SELECT inode,CAST(name AS BLOB),CAST(value AS BLOB) FROM @xattr WHERE inode IN ({marks})"
            )),
            chunks_of: sql(&format!(
                "SELECT inode,indx,CAST(slices AS BLOB) FROM @chunk WHERE inode IN ({marks}) ORDER BY inode,indx"
            )),
            load_acls: insert(
                "INSERT INTO @acl(id,owner,`group`,mask,other,named_users,named_groups)",
                "(?,?,?,?,?,?,?)",
                "",
            ),
            raise_acl_ids: (dialect == Dialect::Postgres)
                .then(|| sql("SELECT setval(pg_get_serial_sequence('@acl','id'),(SELECT MAX(id) FROM @acl))")),
        }
    }
}
