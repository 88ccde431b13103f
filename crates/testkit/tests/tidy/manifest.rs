//! Rules on manifests: dependencies go strictly downward by layer, and one crate alone names each third party.

use std::collections::BTreeMap;

/// What the rules need of one `Cargo.toml`.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub name: String,
    /// `package.metadata.layer`.
    pub layer: Option<i64>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Dev,
    Build,
}

/// The test crate: every crate's tests may use it whatever its layer; nothing that ships may.
const TESTKIT: &str = "shoal-testkit";
/// Measures libraries bare, beside what is built on them.
const BENCH: &str = "shoal-bench";
/// The crates with a `main`.
const BINARIES: &[&str] = &["shoal", "shoal-node", BENCH];

/// Third party -> the crates that may name it (architecture, layout rule 2). A library not listed here is free to use.
const OWNERS: &[(&str, &[&str])] = &[
    ("anyhow", BINARIES),
    ("clap", BINARIES),
    ("flate2", &["shoal-volume"]),
    ("foca", &["shoal-cluster"]),
    ("foyer", &["shoal-bench"]),
    // The RAM tier exists twice: of stored blocks in a node's store, of decoded blocks in a client's cache, which has no store.
    ("foyer-memory", &["shoal-store", "shoal-cache"]),
    ("fuser", &["shoal-fuse", BENCH]),
    ("hashring", &["shoal-ring"]),
    ("hyper", &["shoal-runtime"]),
    ("hyper-util", &["shoal-runtime"]),
    ("io-uring", &["shoal-store", BENCH]),
    ("lz4_flex", &["shoal-format"]),
    ("mimalloc", BINARIES),
    ("opendal", &["shoal-object"]),
    ("prometheus", &["shoal-runtime"]),
    ("quinn", &["shoal-net", BENCH]),
    ("quinn-proto", &["shoal-net"]),
    ("quinn-udp", &["shoal-net"]),
    ("rcgen", &["shoal-net", BENCH]),
    ("redis", &["shoal-meta-redis"]),
    ("rustls", &["shoal-net", "shoal-meta-redis", BENCH]),
    ("rusqlite", &["shoal-meta-sql"]),
    ("sqlx", &["shoal-meta-sql"]),
    ("syn", &[TESTKIT]),
    ("tracing-subscriber", &["shoal-runtime"]),
    ("zstd", &["shoal-format"]),
];

impl Manifest {
    /// The manifest of a package; None for one that only lists a workspace. Panics on malformed TOML.
    pub fn parse(text: &str) -> Option<Manifest> {
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("malformed manifest: {error}\n{text}"));
        let package = table.get("package")?.as_table()?;
        let name = package.get("name")?.as_str()?.to_owned();
        let layer =
            package.get("metadata").and_then(|metadata| metadata.get("layer")).and_then(toml::Value::as_integer);
        let mut dependencies = Vec::new();
        collect(&table, &mut dependencies);
        for target in
            table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(|targets| targets.values())
        {
            collect(target.as_table().expect("a target is a table"), &mut dependencies);
        }
        Some(Manifest { name, layer, dependencies })
    }
}

fn collect(table: &toml::Table, into: &mut Vec<Dependency>) {
    let sections =
        [("dependencies", Kind::Normal), ("dev-dependencies", Kind::Dev), ("build-dependencies", Kind::Build)];
    for (section, kind) in sections {
        for (key, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
            // A renamed dependency is judged by its real name.
            let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
            into.push(Dependency { name: name.to_owned(), kind });
        }
    }
}

/// Refuses a dependency that is not strictly downward, a crate without a layer, and the test crate in anything that ships.
pub fn layers(manifests: &[Manifest]) -> Vec<String> {
    let mut complaints = Vec::new();
    let known: BTreeMap<&str, Option<i64>> = manifests.iter().map(|m| (m.name.as_str(), m.layer)).collect();
    for manifest in manifests {
        let name = &manifest.name;
        let Some(ours) = manifest.layer else {
            complaints.push(format!("{name}: has no package.metadata.layer"));
            continue;
        };
        for dependency in &manifest.dependencies {
            let on = &dependency.name;
            if on == TESTKIT {
                if dependency.kind != Kind::Dev && name != BENCH {
                    complaints.push(format!("{name}: {on} may only be a dev-dependency"));
                }
                continue;
            }
            if on == name && dependency.kind == Kind::Dev {
                // A crate's own tests may turn on its `testing` feature this way.
                continue;
            }
            if let Some(Some(theirs)) = known.get(on.as_str())
                && *theirs >= ours
            {
                complaints.push(format!("{name} (layer {ours}) depends on {on} (layer {theirs}), which is not lower"));
            }
        }
    }
    complaints
}

/// Refuses a third party named by a crate that does not own it.
pub fn owners(manifests: &[Manifest]) -> Vec<String> {
    let mut complaints = Vec::new();
    for manifest in manifests {
        for dependency in &manifest.dependencies {
            let owners =
                OWNERS.iter().find(|(third_party, _)| *third_party == dependency.name).map(|(_, owners)| owners);
            if let Some(owners) = owners.filter(|owners| !owners.contains(&manifest.name.as_str())) {
                let (name, on) = (&manifest.name, &dependency.name);
                complaints.push(format!("{name}: names {on}, which only {} may", owners.join(", ")));
            }
        }
    }
    complaints
}

#[test]
fn a_dependency_that_is_not_strictly_lower_is_refused() {
    let parse = |text| Manifest::parse(text).unwrap();
    let manifests = [
        parse("[package]\nname = 'a'\nmetadata.layer = 1\n[dependencies]\nb = { path = '../b' }\nserde = '1'"),
        parse(
            "[package]\nname = 'b'\nmetadata.layer = 1\n[dev-dependencies]\nshoal-testkit = '*'\nc.workspace = true\nb = '*'",
        ),
        parse(
            "[package]\nname = 'c'\nmetadata.layer = 2\n[target.'cfg(unix)'.dependencies]\na = '*'\n[dependencies]\nshoal-testkit = '*'",
        ),
        parse("[package]\nname = 'shoal-testkit'\nmetadata.layer = 1"),
        parse("[package]\nname = 'd'\n[dependencies]\nx = { package = 'a', path = '../a' }"),
    ];
    assert_eq!(
        layers(&manifests),
        [
            "a (layer 1) depends on b (layer 1), which is not lower",
            "b (layer 1) depends on c (layer 2), which is not lower",
            "c: shoal-testkit may only be a dev-dependency",
            "d: has no package.metadata.layer",
        ]
    );
    assert!(Manifest::parse("[workspace]\nmembers = []").is_none());
}

#[test]
fn a_third_party_outside_its_owner_is_refused() {
    let parse = |text| Manifest::parse(text).unwrap();
    let manifests = [
        parse("[package]\nname = 'shoal-net'\nmetadata.layer = 2\n[dependencies]\nquinn = '0.11'"),
        parse(
            "[package]\nname = 'shoal-vfs'\nmetadata.layer = 5\n[dependencies]\nq = { package = 'quinn', version = '0.11' }",
        ),
        parse("[package]\nname = 'shoal-ring'\nmetadata.layer = 1\n[dev-dependencies]\nsqlx = '0.9'\nserde = '1'"),
        parse("[package]\nname = 'shoal-bench'\nmetadata.layer = 8\n[dependencies]\nfuser = '0.18'\nclap = '4'"),
    ];
    assert_eq!(
        owners(&manifests),
        [
            "shoal-vfs: names quinn, which only shoal-net, shoal-bench may",
            "shoal-ring: names sqlx, which only shoal-meta-sql may"
        ]
    );
}
