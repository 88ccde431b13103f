//! Who asks.

use fuser::Request;
use shoal_meta::Caller;

/// On whose behalf the kernel asks. It has checked the mode's bits and applied the umask already.
pub(crate) fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid(), ..Caller::default() }
}
