//! What a mount is asked for.

use std::path::PathBuf;
use std::time::Duration;

use shoal_format::Ino;

use crate::caller::Squash;

/// Longest read-ahead the kernel may do by itself, in bytes; the mount raises the device's own limit to it where it may.
pub(crate) const KERNEL_READAHEAD_BYTES: u32 = 1 << 20;

/// How a volume is mounted. The lifetimes have JuiceFS's names and defaults.
#[derive(Debug, Clone)]
pub struct FuseOptions {
    /// An existing directory.
    pub mountpoint: PathBuf,
    /// What `df` and `mount` show as the source, such as `Shoal:train`.
    pub fsname: String,
    /// Lets other users than the mounting one in; the kernel checks permissions in any case.
    pub allow_other: bool,
    /// Further options of `mount -o`, as they stand.
    pub extra: Vec<String>,
    /// FUSE threads.
    pub threads: usize,
    /// How long the kernel trusts an attribute.
    pub attr_ttl: Duration,
    /// How long the kernel trusts a name of a file.
    pub entry_ttl: Duration,
    /// How long the kernel trusts a name of a directory.
    pub dir_entry_ttl: Duration,
    /// How long the kernel trusts the absence of a name.
    pub negative_ttl: Duration,
    /// The volume has POSIX ACLs: the kernel asks for them and enforces them. Without, a group with fewer rights than the ACL's mask
    /// would have the mask's.
    pub acl: bool,
    /// The volume's directory that is the mount's root.
    pub root: Ino,
    /// Permission bits that new files and directories never have, in place of the programs' own umask.
    pub umask: Option<u16>,
    /// Users that count as another one. Not on a volume with ACLs: the kernel checks those itself.
    pub squash: Option<Squash>,
    /// The kernel keeps listings until a directory changes.
    pub readdir_cache: bool,
    /// What the names of virtual files begin with: nothing, or [`INTERNAL_PREFIX`](crate::INTERNAL_PREFIX).
    pub internal_prefix: &'static str,
    /// Content of the virtual file `.config`.
    pub config_json: String,
}
