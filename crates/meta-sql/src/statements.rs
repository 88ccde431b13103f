//! The text of every statement for one database: its table prefix and the columns it has are known when it is opened.

use std::sync::Arc;

use crate::driver::Driver;
use crate::insert::Insert;
use crate::lock_statements::LockStatements;
use crate::quota_statements::QuotaStatements;
use crate::removal_statements::RemovalStatements;
use crate::scan_statements::ScanStatements;
use crate::schema::{ATTRS_PER_QUERY, NODE_COLUMNS, node_select};

/// Every statement.
#[derive(Debug)]
pub(crate) struct Statements {
    /// The database, as messages name it.
    pub(crate) at: String,
    /// What every table's name begins with.
    pub(crate) prefix: String,
    pub(crate) setting: Arc<str>,
    pub(crate) counter: Arc<str>,
    pub(crate) attr: Arc<str>,
    pub(crate) attrs: Arc<str>,
    pub(crate) attr_held: Arc<str>,
    pub(crate) attr_locked: Arc<str>,
    pub(crate) attrs_locked: Arc<str>,
    pub(crate) entry_locked: Arc<str>,
    pub(crate) entry: Arc<str>,
    pub(crate) entries: Arc<str>,
    pub(crate) symlink: Arc<str>,
    pub(crate) xattr: Arc<str>,
    pub(crate) xattr_names: Arc<str>,
    pub(crate) slices: Arc<str>,
    pub(crate) slices_len: Arc<str>,
    pub(crate) chunks: Arc<str>,
    pub(crate) acl: Arc<str>,
    pub(crate) acls: Arc<str>,
    pub(crate) insert_acl: Arc<str>,
    pub(crate) dir_usage: Arc<str>,
    pub(crate) parents: Arc<str>,
    pub(crate) put_setting: Arc<str>,
    pub(crate) first_counter: Arc<str>,
    pub(crate) take_ids: Arc<str>,
    pub(crate) add_counter: Arc<str>,
    pub(crate) add_dir_usage: Arc<str>,
    pub(crate) forget_dir_usage: Arc<str>,
    pub(crate) quotas: QuotaStatements,
    pub(crate) changes: Arc<str>,
    pub(crate) newest_change: Arc<str>,
    pub(crate) append_change: Arc<str>,
    pub(crate) remove_changes: Arc<str>,
    pub(crate) touch_dir: Arc<str>,
    pub(crate) delete_xattr: Arc<str>,
    pub(crate) removal: RemovalStatements,
    pub(crate) locks: LockStatements,
    pub(crate) scan: ScanStatements,
    pub(crate) slices_locked: Arc<str>,
    pub(crate) chunks_locked: Arc<str>,
    pub(crate) put_slices: Arc<str>,
    pub(crate) delete_chunks: Arc<str>,
    pub(crate) slice_refs: Arc<str>,
    pub(crate) add_slice_refs: Arc<str>,
    pub(crate) drop_slice_refs: Arc<str>,
    pub(crate) dead_slices: Arc<str>,
    pub(crate) forget_slice: Arc<str>,
    pub(crate) insert_delayed: Arc<str>,
    pub(crate) delayed_before: Arc<str>,
    pub(crate) remove_delayed: Arc<str>,
    pub(crate) insert_attrs: Insert,
    pub(crate) update_attrs: Insert,
    pub(crate) insert_dentries: Insert,
    pub(crate) insert_symlinks: Insert,
    pub(crate) put_xattrs: Insert,
    pub(crate) append_slices: Insert,
    pub(crate) insert_slice_refs: Insert,
    pub(crate) put_dir_usage: Insert,
}

impl Statements {
    /// Statements for tables named `prefix` + name, whose attribute table has the columns `present`.
    pub(crate) fn new<D: Driver>(at: &str, prefix: &str, present: &[String]) -> Statements {
        let dialect = D::DIALECT;
        let named = |text: &str| tables(text, prefix);
        let sql = |text: &str| -> Arc<str> { Arc::from(dialect.text(&named(text))) };
        let insert = |head: &str, row: &str, tail: &str| Insert::new(dialect, &named(head), row, &named(tail));
        let node = node_select(present);
        let join = format!("SELECT e.name,e.inode,e.type,{node} FROM @edge e LEFT JOIN @node n ON n.inode=e.inode");
        let node_head = format!("INSERT INTO @node({})", NODE_COLUMNS.join(","));
        let node_row = format!("({})", vec!["?"; NODE_COLUMNS.len()].join(","));
        let node_renew = NODE_COLUMNS[1..].iter().map(|c| format!("{c}=excluded.{c}")).collect::<Vec<_>>().join(",");
        let marks = vec!["?"; ATTRS_PER_QUERY].join(",");
        let acl = "SELECT owner,`group`,mask,other,named_users,named_groups,id FROM @acl";
        Statements {
            at: at.to_owned(),
            prefix: prefix.to_owned(),
            setting: sql("SELECT value FROM @setting WHERE name='format'"),
            counter: sql("SELECT value FROM @counter WHERE name=?"),
            attr: sql(&format!("SELECT {node} FROM @node n WHERE n.inode=?")),
            attrs: sql(&format!("SELECT {node} FROM @node n WHERE n.inode IN ({marks})")),
            attr_held: sql(&format!("SELECT {node} FROM @node n WHERE n.inode=? FOR KEY SHARE")),
            attr_locked: sql(&format!("SELECT {node} FROM @node n WHERE n.inode=? FOR UPDATE")),
            attrs_locked: sql(&format!(
                "SELECT {node} FROM @node n WHERE n.inode IN ({marks}) ORDER BY n.inode FOR UPDATE"
            )),
            entry_locked: sql(&format!(
                "SELECT {node} FROM @node n WHERE n.inode=(SELECT e.inode FROM @edge e WHERE e.parent=? AND e.name=?) \
                 FOR UPDATE"
            )),
            entry: sql(&format!("{join} WHERE e.parent=? AND e.name=?")),
            entries: sql(&format!("{join} WHERE e.parent=? AND e.name>? ORDER BY e.name LIMIT ?")),
            symlink: sql("SELECT CAST(target AS BLOB) FROM @symlink WHERE inode=?"),
            // Names are TEXT, whatever their bytes: a blob would compare unequal.
            xattr: sql("SELECT CAST(value AS BLOB) FROM @xattr WHERE inode=? AND name=CAST(? AS TEXT)"),
            xattr_names: sql("SELECT CAST(name AS BLOB) FROM @xattr WHERE inode=? ORDER BY name"),
            // The real client appends with `||`, which turns the blob into TEXT (spec section 22).
            slices: sql("SELECT CAST(slices AS BLOB) FROM @chunk WHERE inode=? AND indx=?"),
            slices_len: sql("SELECT LENGTH(CAST(slices AS BLOB)) FROM @chunk WHERE inode=? AND indx=?"),
            chunks: sql(
                "SELECT indx,CAST(slices AS BLOB) FROM @chunk WHERE inode=? AND indx>=? AND indx<? ORDER BY indx",
            ),
            acl: sql(&format!("{acl} WHERE id=?")),
            acls: sql(&format!("{acl} WHERE id>? ORDER BY id")),
            insert_acl: sql(
                "INSERT INTO @acl(owner,`group`,mask,other,named_users,named_groups) VALUES(?,?,?,?,?,?) RETURNING id",
            ),
            dir_usage: sql("SELECT data_length,used_space,used_inodes FROM @dir_stats WHERE inode=?"),
            parents: sql("SELECT parent,COUNT(*) FROM @edge WHERE inode=? GROUP BY parent ORDER BY parent"),
            put_setting: sql(
                "INSERT INTO @setting(name,value) VALUES('format',?) ON CONFLICT(name) DO UPDATE SET value=excluded.value",
            ),
            first_counter: sql("INSERT INTO @counter(name,value) VALUES(?,?) ON CONFLICT(name) DO NOTHING"),
            take_ids: sql("UPDATE @counter SET value=value+? WHERE name=? RETURNING value"),
            add_counter: sql(
                "INSERT INTO @counter(name,value) VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=@counter.value+excluded.value",
            ),
            add_dir_usage: sql(
                "UPDATE @dir_stats SET data_length=data_length+?,used_space=used_space+?,used_inodes=used_inodes+? \
                 WHERE inode=?",
            ),
            forget_dir_usage: sql("DELETE FROM @dir_stats"),
            quotas: QuotaStatements::new(sql),
            changes: sql("SELECT id,entry FROM @change_log WHERE id>? ORDER BY id LIMIT ?"),
            newest_change: sql("SELECT MAX(id) FROM @change_log"),
            append_change: sql("INSERT INTO @change_log(entry) VALUES(?)"),
            remove_changes: sql("DELETE FROM @change_log WHERE id<=?"),
            delete_xattr: sql("DELETE FROM @xattr WHERE inode=? AND name=CAST(? AS TEXT)"),
            touch_dir: sql("UPDATE @node SET nlink=nlink+?,mtime=?,mtimensec=?,ctime=?,ctimensec=? WHERE inode=?"),
            removal: RemovalStatements::new(sql),
            locks: LockStatements::new(sql),
            scan: ScanStatements::new(dialect, &node, sql, insert),
            slices_locked: sql("SELECT CAST(slices AS BLOB) FROM @chunk WHERE inode=? AND indx=? FOR UPDATE"),
            chunks_locked: sql(
                "SELECT indx,CAST(slices AS BLOB) FROM @chunk WHERE inode=? ORDER BY indx LIMIT ? FOR UPDATE",
            ),
            put_slices: sql("UPDATE @chunk SET slices=? WHERE inode=? AND indx=?"),
            delete_chunks: sql("DELETE FROM @chunk WHERE inode=? AND indx>=? AND indx<=?"),
            slice_refs: sql("SELECT refs FROM @chunk_ref WHERE chunkid=?"),
            add_slice_refs: sql("UPDATE @chunk_ref SET refs=refs+? WHERE chunkid=? AND refs>0"),
            drop_slice_refs: sql("UPDATE @chunk_ref SET refs=refs+? WHERE chunkid=?"),
            dead_slices: sql("SELECT chunkid,size FROM @chunk_ref WHERE refs<=0 ORDER BY chunkid LIMIT ?"),
            forget_slice: sql("DELETE FROM @chunk_ref WHERE chunkid=? AND refs<=0"),
            insert_delayed: sql("INSERT INTO @delslices(chunkid,deleted,slices) VALUES(?,?,?)"),
            delayed_before: sql(
                "SELECT chunkid,deleted,CAST(slices AS BLOB) FROM @delslices WHERE deleted<? ORDER BY deleted,chunkid LIMIT ?",
            ),
            remove_delayed: sql("DELETE FROM @delslices WHERE chunkid=?"),
            insert_attrs: insert(&node_head, &node_row, ""),
            update_attrs: insert(&node_head, &node_row, &format!("ON CONFLICT(inode) DO UPDATE SET {node_renew}")),
            insert_dentries: insert("INSERT INTO @edge(parent,name,inode,type)", "(?,?,?,?)", ""),
            insert_symlinks: insert("INSERT INTO @symlink(inode,target)", "(?,?)", ""),
            put_xattrs: insert(
                "INSERT INTO @xattr(inode,name,value)",
                "(?,CAST(? AS TEXT),?)",
                "ON CONFLICT(inode,name) DO UPDATE SET value=excluded.value",
            ),
            append_slices: insert(
                "INSERT INTO @chunk(inode,indx,slices)",
                "(?,?,?)",
                "ON CONFLICT(inode,indx) DO UPDATE SET slices=CAST(@chunk.slices||excluded.slices AS BLOB)",
            ),
            insert_slice_refs: insert("INSERT INTO @chunk_ref(chunkid,size,refs)", "(?,?,?)", ""),
            put_dir_usage: insert(
                "INSERT INTO @dir_stats(inode,data_length,used_space,used_inodes)",
                "(?,?,?,?)",
                "ON CONFLICT(inode) DO UPDATE SET data_length=excluded.data_length,used_space=excluded.used_space,\
                 used_inodes=excluded.used_inodes",
            ),
        }
    }
}

/// Table names in full and in backticks: `@node` becomes `prefix` + `node`.
fn tables(text: &str, prefix: &str) -> String {
    let mut parts = text.split('@');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        out.push_str(&format!("`{prefix}{}`{}", &part[..end], &part[end..]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_get_their_prefix() {
        let text = tables("SELECT @node.a FROM @node,@dir_stats WHERE x=@node.inode", "jfs_Z_");
        assert_eq!(text, "SELECT `jfs_Z_node`.a FROM `jfs_Z_node`,`jfs_Z_dir_stats` WHERE x=`jfs_Z_node`.inode");
    }
}
