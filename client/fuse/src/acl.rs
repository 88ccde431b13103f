//! Kernel requests about POSIX ACLs: extended attributes that are no attributes (spec section 18).

use fuser::{Errno, INodeNo, ReplyEmpty, Request};
use shoal_format::AclRule;
use shoal_meta::AclKind;

use crate::caller::caller_with_groups;
use crate::ops::ShoalFs;
use crate::virtual_files::VirtualFile;

impl ShoalFs {
    pub(crate) fn put_acl(&self, req: &Request, ino: INodeNo, kind: AclKind, value: &[u8], reply: ReplyEmpty) {
        match AclRule::from_xattr(value) {
            Ok(rule) => self.set_acl(req, ino, kind, rule, reply),
            Err(error) => {
                tracing::debug!(%ino, %error, "refused");
                reply.error(Errno::EINVAL);
            }
        }
    }

    pub(crate) fn delete_acl(&self, req: &Request, ino: INodeNo, kind: AclKind, reply: ReplyEmpty) {
        self.set_acl(req, ino, kind, None, reply);
    }

    /// The kernel has checked who may; it leaves to us that only the file's group, or root, keeps its set-group-id bit.
    fn set_acl(&self, req: &Request, ino: INodeNo, kind: AclKind, rule: Option<AclRule>, reply: ReplyEmpty) {
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::EPERM);
        }
        let (fs, caller) = (self.clone(), caller_with_groups(req, self.options().squash));
        let inode = self.ino(ino);
        self.spawn("setfacl", async move {
            let done = fs.vfs().set_acl(&caller, inode, kind, rule).await;
            fs.done("setfacl", ino, done, reply);
        });
    }
}
