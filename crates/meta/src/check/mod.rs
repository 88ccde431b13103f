//! Whether a tree's records agree with each other, and what can be made right again: link counts, parents, use.

mod finding;
mod names;
mod repair;
mod walk;

pub use finding::{Fault, Finding};
pub use names::paths_of;
pub use walk::{CheckOptions, CheckReport, check_tree};
