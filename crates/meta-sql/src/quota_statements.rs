//! Statements about quotas.

use std::sync::Arc;

/// Columns behind a key.
const VALUES: &str = "max_space,max_inodes,used_space,used_inodes";

/// Every one of them.
#[derive(Debug)]
pub(crate) struct QuotaStatements {
    pub(crate) of_dirs: Arc<str>,
    pub(crate) of_owners: Arc<str>,
    pub(crate) of_dir: Arc<str>,
    pub(crate) of_owner: Arc<str>,
    pub(crate) add_dir: Arc<str>,
    pub(crate) add_owner: Arc<str>,
    pub(crate) put_dir: Arc<str>,
    pub(crate) put_owner: Arc<str>,
}

impl QuotaStatements {
    /// The statements, each finished by `sql`.
    pub(crate) fn new(sql: impl Fn(&str) -> Arc<str>) -> QuotaStatements {
        let renew: Vec<String> = VALUES.split(',').map(|column| format!("{column}=excluded.{column}")).collect();
        let renew = renew.join(",");
        QuotaStatements {
            of_dirs: sql(&format!("SELECT inode,{VALUES} FROM @dir_quota ORDER BY inode")),
            of_owners: sql(&format!("SELECT qkey,{VALUES} FROM @user_group_quota WHERE qtype=? ORDER BY qkey")),
            of_dir: sql(&format!("SELECT {VALUES} FROM @dir_quota WHERE inode=?")),
            of_owner: sql(&format!("SELECT {VALUES} FROM @user_group_quota WHERE qtype=? AND qkey=?")),
            add_dir: sql("UPDATE @dir_quota SET used_space=used_space+?,used_inodes=used_inodes+? WHERE inode=?"),
            add_owner: sql(&format!(
                "INSERT INTO @user_group_quota(qtype,qkey,{VALUES}) VALUES(?,?,?,?,?,?) \
                 ON CONFLICT(qtype,qkey) DO UPDATE SET used_space=@user_group_quota.used_space+excluded.used_space,\
                 used_inodes=@user_group_quota.used_inodes+excluded.used_inodes"
            )),
            put_dir: sql(&format!(
                "INSERT INTO @dir_quota(inode,{VALUES}) VALUES(?,?,?,?,?) ON CONFLICT(inode) DO UPDATE SET {renew}"
            )),
            put_owner: sql(&format!(
                "INSERT INTO @user_group_quota(qtype,qkey,{VALUES}) VALUES(?,?,?,?,?,?) \
                 ON CONFLICT(qtype,qkey) DO UPDATE SET {renew}"
            )),
        }
    }
}
