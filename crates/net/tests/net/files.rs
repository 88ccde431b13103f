//! Certificates as files, and what their errors tell people.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use shoal_net::{Credentials, NetError, Role, ca};
use shoal_types::ErrorKind;
use tempfile::TempDir;

struct Dirs {
    root: TempDir,
}

impl Dirs {
    fn new() -> Dirs {
        let dirs = Dirs { root: tempfile::tempdir().unwrap() };
        ca::init(&dirs.path("ca"), "train", false).unwrap();
        dirs
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn issue(&self, role: Role, name: &str) -> std::path::PathBuf {
        ca::issue(&self.path("ca"), role, name, &self.path(name), 365).unwrap();
        self.path(name)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_issued_directory_loads_with_its_identity() {
    let dirs = Dirs::new();
    for (role, name) in [(Role::Node, "n1"), (Role::Client, "c1")] {
        let credentials = Credentials::load(&dirs.issue(role, name)).unwrap();
        let identity = credentials.identity();
        assert_eq!((identity.role, identity.group.as_str(), identity.name.as_str()), (role, "train", name));
        assert_eq!(format!("{credentials:?}"), format!("Credentials(shoal://train/{role}/{name})"));
    }
}

#[test]
fn keys_are_for_their_owner_only_and_nothing_is_left_over() {
    let dirs = Dirs::new();
    let node = dirs.issue(Role::Node, "n1");
    assert_eq!((mode(&dirs.path("ca/ca-key.pem")), mode(&node.join("key.pem"))), (0o600, 0o600));
    let mut files: Vec<_> = fs::read_dir(&node).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["ca.pem", "cert.pem", "key.pem"]);
}

#[test]
fn nothing_is_overwritten_unless_asked_to() {
    let dirs = Dirs::new();
    let node = dirs.issue(Role::Node, "n1");
    let before = (fs::read(dirs.path("ca/ca-key.pem")).unwrap(), fs::read(node.join("key.pem")).unwrap());
    let error = ca::init(&dirs.path("ca"), "train", false).unwrap_err();
    assert!(matches!(error, NetError::Exists { .. }) && error.to_string().contains("--force"), "{error}");
    let error = ca::issue(&dirs.path("ca"), Role::Node, "n1", &node, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(before, (fs::read(dirs.path("ca/ca-key.pem")).unwrap(), fs::read(node.join("key.pem")).unwrap()));

    ca::renew(&dirs.path("ca"), Role::Node, "n1", &node, 1).unwrap();
    assert_ne!(before.1, fs::read(node.join("key.pem")).unwrap());
    Credentials::load(&node).unwrap();
    ca::init(&dirs.path("ca"), "train", true).unwrap();
    assert_ne!(before.0, fs::read(dirs.path("ca/ca-key.pem")).unwrap());
    assert_eq!(mode(&dirs.path("ca/ca-key.pem")), 0o600);
}

#[test]
fn certificates_show_what_they_say() {
    let dirs = Dirs::new();
    let infos = ca::show(&dirs.issue(Role::Client, "c1")).unwrap();
    assert_eq!(infos.len(), 2);
    assert_eq!((infos[0].identity.as_ref(), infos[0].group.as_str()), (None, "train"));
    assert!((3648..=3650).contains(&infos[0].days_left), "{}", infos[0].days_left);
    let identity = infos[1].identity.as_ref().unwrap();
    assert_eq!(identity.to_string(), "shoal://train/client/c1");
    assert!((364..=365).contains(&infos[1].days_left));
    assert!(infos[1].valid_until.ends_with('Z') && infos[1].valid_until.len() == 20, "{}", infos[1].valid_until);
    assert_eq!(infos[1].fingerprint.len(), 64);
    assert_eq!(ca::show(&dirs.path("c1/cert.pem")).unwrap(), infos[1..]);
}

#[test]
fn names_that_fit_no_certificate_are_refused() {
    let dirs = Dirs::new();
    for name in ["", "a/b", "a b", "é", &"n".repeat(64)] {
        let error = ca::issue(&dirs.path("ca"), Role::Node, name, &dirs.path("x"), 1).unwrap_err();
        assert!(matches!(error, NetError::Name { .. }), "{error}");
        assert!(matches!(ca::init(&dirs.path("y"), name, false), Err(NetError::Name { .. })));
    }
}

#[test]
fn a_validity_out_of_bounds_is_refused() {
    let dirs = Dirs::new();
    for days in [0, 3651] {
        let error = ca::issue(&dirs.path("ca"), Role::Node, "n1", &dirs.path("x"), days).unwrap_err();
        assert_eq!(error.to_string(), format!("days of {days} is out of bounds: 1 to 3650 days"));
    }
}

/// What loading says after `break_it`.
fn complaint(break_it: impl FnOnce(&Dirs, &Path)) -> String {
    let dirs = Dirs::new();
    let node = dirs.issue(Role::Node, "n1");
    break_it(&dirs, &node);
    let error = Credentials::load(&node).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound), "{error}");
    error.to_string().replace(&node.display().to_string(), "DIR")
}

#[test]
fn every_broken_directory_says_what_is_wrong_and_what_to_do() {
    let again = "make it again with `shoal cert node` or `shoal cert client`";
    let make =
        "name the right directory, or make it with `shoal cert init`, then `shoal cert node` or `shoal cert client`";
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        let missing = complaint(|_, dir| fs::remove_file(dir.join(file)).unwrap());
        assert_eq!(missing, format!("cannot read DIR/{file}: {make}"));
        let empty = complaint(|_, dir| fs::write(dir.join(file), "nothing").unwrap());
        let what = if file == "key.pem" { "private key" } else { "certificate" };
        assert_eq!(empty, format!("DIR/{file} holds no {what}: {again}"));
    }
    let other_key = complaint(|dirs, dir| {
        fs::copy(dirs.issue(Role::Node, "n2").join("key.pem"), dir.join("key.pem")).unwrap();
    });
    assert_eq!(other_key, format!("DIR/key.pem is not the key of cert.pem beside it: {again}"));
    let ca_as_cert = complaint(|_, dir| {
        fs::copy(dir.join("ca.pem"), dir.join("cert.pem")).unwrap();
    });
    assert_eq!(ca_as_cert, format!("DIR/cert.pem holds a certificate without a shoal:// identity: {again}"));
    let cert_as_ca = complaint(|_, dir| {
        fs::copy(dir.join("cert.pem"), dir.join("ca.pem")).unwrap();
    });
    assert_eq!(cert_as_ca, format!("DIR/ca.pem is no CA certificate: {again}"));
    let other_ca = complaint(|dirs, dir| {
        ca::init(&dirs.path("ca2"), "train", false).unwrap();
        fs::copy(dirs.path("ca2/ca.pem"), dir.join("ca.pem")).unwrap();
    });
    assert!(other_ca.starts_with("DIR/cert.pem cannot be used: invalid peer certificate"), "{other_ca}");
    let other_group = complaint(|dirs, dir| {
        ca::init(&dirs.path("ca2"), "infer", false).unwrap();
        fs::copy(dirs.path("ca2/ca.pem"), dir.join("ca.pem")).unwrap();
    });
    assert_eq!(other_group, format!("DIR/cert.pem is of group `train` but its CA is of group `infer`: {again}"));
}
