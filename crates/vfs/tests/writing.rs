//! Writing through a `Vfs` over a volume in memory, in virtual time: stores that fail, hang and crawl, answers that are lost.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails; clippy sees helpers of tests as no tests")]

mod writing {
    mod bed;
    mod compaction;
    mod failures;
    mod model;
    mod stream;
}
