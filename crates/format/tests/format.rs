//! The crate's public behaviour: volumes and keys that real clients made, models, and bytes that nobody made.

mod format {
    mod codec;
    mod fuzz;
    mod keys;
    mod model;
    mod settings;
    mod volumes;
}
