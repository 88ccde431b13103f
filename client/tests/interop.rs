//! Shoal and JuiceFS 1.4.2 on the same volumes: what one writes the other reads, byte for byte and attribute for attribute.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails; clippy sees helpers of tests as no tests")]

mod rig;

mod interop {
    mod acls;
    mod changelog;
    mod dump;
    mod flags;
    mod import;
    mod live;
    mod locks;
    mod looks;
    mod mixed;
    mod mount_flags;
    mod names;
    mod pair;
    mod quota;
    mod redis;
    mod refusals;
    mod removal;
    mod s3;
    mod squash;
    mod tier;
    mod tools;
    mod tree;
    mod upkeep;
    mod volumes;
    mod writeback;
    mod writing;
}
