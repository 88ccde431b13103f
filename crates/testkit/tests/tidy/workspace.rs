//! Reads the workspace: every crate's manifest and Rust files.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::modules::ModuleFile;

/// One crate of the workspace.
pub struct Crate {
    pub manifest: Manifest,
    pub files: Vec<SourceFile>,
    /// The crate's directory relative to the root.
    dir: PathBuf,
}

/// One Rust file, its path relative to the root.
pub struct SourceFile {
    pub path: PathBuf,
    pub text: String,
}

/// Directories of a crate that hold Rust files.
const SOURCE_DIRS: [&str; 4] = ["src", "tests", "benches", "examples"];

/// Every crate below `root`. Panics on what cannot be read or parsed.
pub fn load(root: &Path) -> Vec<Crate> {
    let mut crates = Vec::new();
    for manifest_path in find(root, &|path| path.file_name().is_some_and(|name| name == "Cargo.toml")) {
        let text = read(&manifest_path);
        let Some(manifest) = Manifest::parse(&text) else { continue };
        let dir = manifest_path.parent().expect("a file has a directory");
        let mut paths: Vec<PathBuf> = SOURCE_DIRS.iter().flat_map(|sub| find(&dir.join(sub), &is_rust)).collect();
        paths.extend(Some(dir.join("build.rs")).filter(|path| path.is_file()));
        paths.sort();
        let relative = |path: &Path| path.strip_prefix(root).expect("found below the root").to_owned();
        let files = paths.iter().map(|path| SourceFile { path: relative(path), text: read(path) }).collect();
        crates.push(Crate { manifest, files, dir: relative(dir) });
    }
    crates
}

impl Crate {
    /// The files of the library target with their module paths.
    pub fn module_files(&self) -> Vec<ModuleFile> {
        let source = self.dir.join("src");
        let inside = self.files.iter().filter_map(|file| Some((file.path.strip_prefix(&source).ok()?, file)));
        inside.filter_map(|(path, file)| ModuleFile::new(path, &file.path, &file.text)).collect()
    }
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below `dir` that `wanted` accepts; build output and hidden directories are left out.
fn find(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(items) = fs::read_dir(dir) else { return found };
    for item in items.filter_map(Result::ok) {
        let (path, name) = (item.path(), item.file_name());
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                found.extend(find(&path, wanted));
            }
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found
}
