//! The Redis engine from outside: the conformance suite, opening, races, failures, and the real client.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../../meta-sql/tests/suite/oracle/listing.rs"]
mod listing;

mod suite {
    mod cluster;
    mod conformance;
    mod failures;
    mod opening;
    mod oracle;
    mod races;
    mod sentinel;
    mod tls;
    mod values;
    mod volumes;
}
