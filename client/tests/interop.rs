//! Shoal and JuiceFS 1.4.2 on the same volumes: what one writes the other reads, byte for byte and attribute for attribute.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails; clippy sees helpers of tests as no tests")]

mod rig;

mod interop {
    mod flags;
    mod import;
    mod live;
    mod pair;
    mod refusals;
    mod s3;
    mod tree;
    mod volumes;
}
