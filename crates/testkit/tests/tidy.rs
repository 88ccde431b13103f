//! The workspace's own rules, checked on every file: layers, module cycles, owners of third parties, file shape.
//!
//! `cargo test -p shoal-testkit --test tidy`. Each rule is a function from text to a list of complaints, with its own test on a bad
//! example; the one test at the end runs them all on the workspace.

#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/metrics.rs"]
mod metrics;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/workspace.rs"]
mod workspace;

use std::path::Path;

#[test]
fn the_workspace_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/testkit lies two levels below the root");
    let crates = workspace::load(root);
    assert!(crates.len() > 10, "found only {} crates below {}", crates.len(), root.display());
    let manifests: Vec<_> = crates.iter().map(|found| found.manifest.clone()).collect();
    let mut complaints = manifest::layers(&manifests);
    complaints.extend(manifest::owners(&manifests));
    for found in &crates {
        for file in &found.files {
            complaints.extend(files::check(&file.path, &file.text));
        }
        complaints.extend(modules::cycles(&found.manifest.name, &found.module_files()));
    }
    // Only what ships declares metrics: tests and benches name them to read them.
    let shipped = crates
        .iter()
        .filter(|found| !matches!(found.manifest.name.as_str(), "shoal" | "shoal-bench" | "shoal-testkit"));
    let sources = shipped.flat_map(|found| &found.files).map(|file| file.text.as_str());
    let page = std::fs::read_to_string(root.join("deploy/METRICS.md")).expect("deploy/METRICS.md is there");
    complaints.extend(metrics::check(sources, &page));
    complaints.sort();
    assert!(complaints.is_empty(), "{} complaints:\n  {}\n", complaints.len(), complaints.join("\n  "));
}
