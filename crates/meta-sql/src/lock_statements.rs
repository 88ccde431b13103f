//! The text of statements about locks.

use std::sync::Arc;

/// Statements about locks.
#[derive(Debug)]
pub(crate) struct LockStatements {
    pub(crate) flocks: Arc<str>,
    pub(crate) plocks: Arc<str>,
    pub(crate) put_flock: Arc<str>,
    pub(crate) delete_flock: Arc<str>,
    pub(crate) put_plocks: Arc<str>,
    pub(crate) delete_plocks: Arc<str>,
}

impl LockStatements {
    /// Statements whose text `sql` completes: `@` stands for the table prefix.
    pub(crate) fn new(sql: impl Fn(&str) -> Arc<str>) -> LockStatements {
        LockStatements {
            flocks: sql("SELECT sid,owner,ltype FROM @flock WHERE inode=? ORDER BY sid,owner"),
            plocks: sql("SELECT sid,owner,CAST(records AS BLOB) FROM @plock WHERE inode=? ORDER BY sid,owner"),
            put_flock: sql("INSERT INTO @flock(inode,sid,owner,ltype) VALUES(?,?,?,?) \
                 ON CONFLICT(inode,sid,owner) DO UPDATE SET ltype=excluded.ltype"),
            delete_flock: sql("DELETE FROM @flock WHERE inode=? AND sid=? AND owner=?"),
            put_plocks: sql("INSERT INTO @plock(inode,sid,owner,records) VALUES(?,?,?,?) \
                 ON CONFLICT(inode,sid,owner) DO UPDATE SET records=excluded.records"),
            delete_plocks: sql("DELETE FROM @plock WHERE inode=? AND sid=? AND owner=?"),
        }
    }
}
