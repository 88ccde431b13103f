//! Simulations of whole rings: the real membership, ring, caches, stores, requests and answers of many nodes and clients in one thread,
//! over a simulated network and a simulated origin, under faults, with time that jumps. One seed decides everything.
//!
//! All of it lies in `tests/`, because nothing of it may ship. What runs when:
//!
//! ```text
//! cargo test -p shoal-sim                                                       # 100 nodes, a few seeds
//! SHOAL_SIM_SEED=7 cargo test -p shoal-sim survives_storms                       # one seed again: the same run, message by message
//! SHOAL_SIM_NODES=1000 cargo test -p shoal-sim --release -- --ignored --nocapture   # as large as wanted
//! ```
//!
//! `SHOAL_SIM_BLOCK=875` tells the story of one block, `RUST_LOG=shoal_cache=debug` what the layers say.
//!
//! What must hold is in `tests/sim/ledger.rs`.
