//! The rules of POSIX ACLs, which inodes share by id (spec section 18).

use std::collections::HashMap;

use parking_lot::Mutex;
use shoal_format::{AclRule, Ino};

use crate::engine::{Records, Txn};
use crate::error::MetaError;

/// Rules a client remembers. Volumes have some dozens; what is beyond is recorded again where it is needed.
const RULES_MAX: usize = 65_536;

/// What a client knows of the volume's rules: they never change and never go.
#[derive(Debug, Default)]
pub(crate) struct AclRules(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    ids: HashMap<AclRule, u32>,
    /// Every rule up to this one was seen.
    last: u32,
}

impl AclRules {
    /// Id of `rule`, which is recorded if the volume has none like it.
    pub(crate) async fn id_of(&self, txn: &dyn Txn, rule: &AclRule) -> Result<u32, MetaError> {
        let last = {
            let known = self.0.lock();
            if let Some(id) = known.ids.get(rule) {
                return Ok(*id);
            }
            if known.ids.len() >= RULES_MAX { None } else { Some(known.last) }
        };
        if let Some(last) = last {
            // Before this transaction adds one: what is seen here is committed.
            let newer = txn.acls(last).await?;
            let mut known = self.0.lock();
            for (id, rule) in newer {
                known.last = known.last.max(id);
                known.ids.entry(rule).or_insert(id);
            }
            if let Some(id) = known.ids.get(rule) {
                return Ok(*id);
            }
        }
        txn.insert_acl(rule).await
    }
}

/// The rule that an attribute of `ino` names.
pub(crate) async fn rule(records: &dyn Records, ino: Ino, id: u32) -> Result<AclRule, MetaError> {
    let rule = records.acl(id).await?;
    rule.ok_or_else(|| MetaError::Corrupt { what: format!("inode {ino} names ACL rule {id}, which is missing") })
}
