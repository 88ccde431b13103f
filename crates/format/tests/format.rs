//! The crate's public behaviour: volumes and keys that real clients made, models, and bytes that nobody made.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails; clippy sees helpers of tests as no tests")]

mod format {
    mod codec;
    mod fuzz;
    mod keys;
    mod model;
    mod settings;
    mod volumes;
}
