//! The SQLite engine from outside: the conformance suite, opening, sharing a file, and the real client.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod suite {
    mod bed;
    mod conformance;
    mod old_volumes;
    mod opening;
    mod oracle;
    mod power;
    mod round_trips;
    mod server_failures;
    mod server_opening;
    mod sharing;
    mod writers;
}
