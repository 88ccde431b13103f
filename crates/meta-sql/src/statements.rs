//! The text of every statement for one database: its table prefix and the columns it has are known when it is opened.

use std::sync::Arc;

use crate::insert::Insert;
use crate::schema::{NODE_COLUMNS, node_select};

/// Inodes one statement asks for; shorter lists repeat their last, so that one text is prepared.
pub(crate) const ATTRS_PER_QUERY: usize = 64;

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
    pub(crate) entry: Arc<str>,
    pub(crate) entries: Arc<str>,
    pub(crate) symlink: Arc<str>,
    pub(crate) xattr: Arc<str>,
    pub(crate) xattr_names: Arc<str>,
    pub(crate) slices: Arc<str>,
    pub(crate) chunks: Arc<str>,
    pub(crate) acl: Arc<str>,
    pub(crate) dir_usage: Arc<str>,
    pub(crate) dir_quotas: Arc<str>,
    pub(crate) parents: Arc<str>,
    pub(crate) put_setting: Arc<str>,
    pub(crate) first_counter: Arc<str>,
    pub(crate) take_ids: Arc<str>,
    pub(crate) add_counter: Arc<str>,
    pub(crate) add_dir_usage: Arc<str>,
    pub(crate) add_quota: Arc<str>,
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
    pub(crate) fn new(at: &str, prefix: &str, present: &[String]) -> Statements {
        let sql = |text: &str| -> Arc<str> { Arc::from(text.replace('@', prefix).as_str()) };
        let insert = |head: &str, row: &str, tail: &str| Insert::new(&head.replace('@', prefix), row, tail);
        let node = node_select(present);
        let join = format!("SELECT e.name,e.inode,e.type,{node} FROM @edge e LEFT JOIN @node n ON n.inode=e.inode");
        let node_head = format!("INSERT INTO @node({})", NODE_COLUMNS.join(","));
        let node_row = format!("({})", vec!["?"; NODE_COLUMNS.len()].join(","));
        let node_renew = NODE_COLUMNS[1..].iter().map(|c| format!("{c}=excluded.{c}")).collect::<Vec<_>>().join(",");
        let marks = vec!["?"; ATTRS_PER_QUERY].join(",");
        Statements {
            at: at.to_owned(),
            prefix: prefix.to_owned(),
            setting: sql("SELECT value FROM @setting WHERE name='format'"),
            counter: sql("SELECT value FROM @counter WHERE name=?"),
            attr: sql(&format!("SELECT {node} FROM @node n WHERE n.inode=?")),
            attrs: sql(&format!("SELECT {node} FROM @node n WHERE n.inode IN ({marks})")),
            entry: sql(&format!("{join} WHERE e.parent=? AND e.name=?")),
            entries: sql(&format!("{join} WHERE e.parent=? AND e.name>? ORDER BY e.name LIMIT ?")),
            symlink: sql("SELECT CAST(target AS BLOB) FROM @symlink WHERE inode=?"),
            // Names are TEXT, whatever their bytes: a blob would compare unequal.
            xattr: sql("SELECT CAST(value AS BLOB) FROM @xattr WHERE inode=? AND name=CAST(? AS TEXT)"),
            xattr_names: sql("SELECT CAST(name AS BLOB) FROM @xattr WHERE inode=? ORDER BY name"),
            // The real client appends with `||`, which turns the blob into TEXT (spec section 22).
            slices: sql("SELECT CAST(slices AS BLOB) FROM @chunk WHERE inode=? AND indx=?"),
            chunks: sql(
                "SELECT indx,CAST(slices AS BLOB) FROM @chunk WHERE inode=? AND indx>=? AND indx<? ORDER BY indx",
            ),
            acl: sql("SELECT owner,`group`,mask,other,named_users,named_groups FROM @acl WHERE id=?"),
            dir_usage: sql("SELECT data_length,used_space,used_inodes FROM @dir_stats WHERE inode=?"),
            dir_quotas: sql("SELECT inode,max_space,max_inodes,used_space,used_inodes FROM @dir_quota ORDER BY inode"),
            parents: sql("SELECT parent,COUNT(*) FROM @edge WHERE inode=? GROUP BY parent ORDER BY parent"),
            put_setting: sql(
                "INSERT INTO @setting(name,value) VALUES('format',?) ON CONFLICT(name) DO UPDATE SET value=excluded.value",
            ),
            first_counter: sql("INSERT INTO @counter(name,value) VALUES(?,?) ON CONFLICT(name) DO NOTHING"),
            take_ids: sql("UPDATE @counter SET value=value+? WHERE name=? RETURNING value"),
            add_counter: sql(
                "INSERT INTO @counter(name,value) VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=value+excluded.value",
            ),
            add_dir_usage: sql(
                "UPDATE @dir_stats SET data_length=data_length+?,used_space=used_space+?,used_inodes=used_inodes+? \
                 WHERE inode=?",
            ),
            add_quota: sql("UPDATE @dir_quota SET used_space=used_space+?,used_inodes=used_inodes+? WHERE inode=?"),
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
                "ON CONFLICT(inode,indx) DO UPDATE SET slices=CAST(slices||excluded.slices AS BLOB)",
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
