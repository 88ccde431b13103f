//! The text of statements about removals and sessions.

use std::sync::Arc;

use shoal_meta::Serial;

/// Inodes one statement removes rows of; shorter lists repeat their last, so that one text is prepared.
pub(crate) const INODES_PER_DELETE: usize = 64;

/// Removes the rows of one inode, or of up to [`INODES_PER_DELETE`].
#[derive(Debug)]
pub(crate) struct DeleteByInode {
    pub(crate) one: Arc<str>,
    pub(crate) many: Arc<str>,
}

/// Statements about removals and sessions.
#[derive(Debug)]
pub(crate) struct RemovalStatements {
    pub(crate) deleted_files: Arc<str>,
    pub(crate) sessions: Arc<str>,
    pub(crate) expired_sessions: Arc<str>,
    pub(crate) sustained: Arc<str>,
    pub(crate) delete_dentry: Arc<str>,
    pub(crate) delete_attrs: DeleteByInode,
    pub(crate) delete_symlinks: DeleteByInode,
    pub(crate) delete_xattrs: DeleteByInode,
    pub(crate) delete_dir_usage: DeleteByInode,
    pub(crate) delete_dir_quotas: DeleteByInode,
    pub(crate) delete_deleted_files: DeleteByInode,
    pub(crate) insert_deleted_file: Arc<str>,
    pub(crate) insert_sustained: Arc<str>,
    pub(crate) delete_sustained: Arc<str>,
    pub(crate) detached_before: Arc<str>,
    pub(crate) insert_detached: Arc<str>,
    pub(crate) remove_detached: Arc<str>,
    pub(crate) elect: Arc<str>,
    pub(crate) put_session: Arc<str>,
    pub(crate) delete_session: [Arc<str>; 3],
}

impl RemovalStatements {
    /// Statements whose text `sql` completes: `@` stands for the table prefix.
    pub(crate) fn new(sql: impl Fn(&str) -> Arc<str>) -> RemovalStatements {
        let marks = vec!["?"; INODES_PER_DELETE].join(",");
        let delete = |table: &str| DeleteByInode {
            one: sql(&format!("DELETE FROM @{table} WHERE inode=?")),
            many: sql(&format!("DELETE FROM @{table} WHERE inode IN ({marks})")),
        };
        RemovalStatements {
            deleted_files: sql("SELECT inode,length,expire FROM @delfile WHERE expire<? ORDER BY expire,inode LIMIT ?"),
            sessions: sql("SELECT sid,expire,info FROM @session2 ORDER BY sid"),
            expired_sessions: sql("SELECT sid FROM @session2 WHERE expire<? ORDER BY sid LIMIT ?"),
            sustained: sql("SELECT inode FROM @sustained WHERE sid=? ORDER BY inode"),
            delete_dentry: sql("DELETE FROM @edge WHERE parent=? AND name=? AND inode=?"),
            delete_attrs: delete("node"),
            delete_symlinks: delete("symlink"),
            delete_xattrs: delete("xattr"),
            delete_dir_usage: delete("dir_stats"),
            delete_dir_quotas: delete("dir_quota"),
            delete_deleted_files: delete("delfile"),
            insert_deleted_file: sql("INSERT INTO @delfile(inode,length,expire) VALUES(?,?,?)"),
            insert_sustained: sql("INSERT INTO @sustained(sid,inode) VALUES(?,?) ON CONFLICT(sid,inode) DO NOTHING"),
            delete_sustained: sql("DELETE FROM @sustained WHERE sid=? AND inode=?"),
            detached_before: sql("SELECT inode FROM @detached_node WHERE added<? ORDER BY added,inode LIMIT ?"),
            insert_detached: sql("INSERT INTO @detached_node(inode,added) VALUES(?,?)"),
            remove_detached: sql("DELETE FROM @detached_node WHERE inode=?"),
            elect: sql("UPDATE @counter SET value=? WHERE name=? AND value<=?"),
            put_session: sql("INSERT INTO @session2(sid,expire,info) VALUES(?,?,?) \
                 ON CONFLICT(sid) DO UPDATE SET expire=excluded.expire,info=excluded.info"),
            delete_session: [
                sql("DELETE FROM @flock WHERE sid=?"),
                sql("DELETE FROM @plock WHERE sid=?"),
                sql("DELETE FROM @session2 WHERE sid=?"),
            ],
        }
    }
}

/// Name of the counter that holds the last number handed out.
pub(crate) fn serial_name(serial: Serial) -> &'static str {
    match serial {
        Serial::Session => "nextSession",
        Serial::TrashDir => "nextTrash",
    }
}
