//! POSIX as others test it: pjdfstest, fsx, fio and dbench on a mount for writing, and what none of them looks at.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails; clippy sees helpers of tests as no tests")]

mod rig;

mod posix {
    mod bed;
    mod claims;
    mod engines;
    mod holes;
    mod power;
    mod programs;
    mod suites;
    mod uploads;
}
