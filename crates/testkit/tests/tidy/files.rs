//! Rules on one file: it says what it is for, it is short, and nothing in it is left to do.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Lines a file may have, its unit tests not counted (house style 2).
const LINES_MAX: usize = 800;
/// What simulations run: there a seed must decide everything.
const SIMULATED: [&str; 5] =
    ["crates/cache/src", "crates/cluster/src", "crates/net/src", "crates/object/src", "crates/store/src"];

/// Every complaint about the file `path` with content `text`.
pub fn check(path: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let shown = path.display();
    if !says_what_it_is_for(text) {
        complaints.push(format!("{shown}: does not begin with a `//!` line that says what it is for"));
    }
    let lines = counted_lines(text);
    if lines > LINES_MAX && !is_test_file(path) {
        complaints.push(format!("{shown}: has {lines} lines without its tests, {LINES_MAX} are allowed"));
    }
    if SIMULATED.iter().any(|simulated| shown.to_string().contains(simulated)) && leaves_to_chance(text) {
        complaints.push(format!("{shown}: a select! without `biased;` leaves a simulation to chance"));
    }
    match syn::parse_file(text) {
        Ok(file) => {
            let mut finder = Unfinished::default();
            finder.visit_file(&file);
            let unfinished =
                finder.found.into_iter().map(|(name, count)| format!("{shown}: contains {name}! ({count})"));
            complaints.extend(unfinished);
        }
        Err(error) => complaints.push(format!("{shown}: is not Rust: {error}")),
    }
    complaints
}

fn says_what_it_is_for(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("#!"));
    lines.next().is_some_and(|line| line.starts_with("//!") && line.len() > "//! ".len())
}

/// True if a `select!` does not say that it decides in order.
fn leaves_to_chance(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.ends_with("select! {") && lines.next() != Some("biased;") {
            return true;
        }
    }
    false
}

fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// Lines outside `#[cfg(test)] mod … { … }` at the top level, as rustfmt lays it out.
fn counted_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let (mut count, mut at) = (0, 0);
    while at < lines.len() {
        let opens = lines.get(at + 1).is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if lines[at] == "#[cfg(test)]" && opens {
            at += lines[at..].iter().position(|line| *line == "}").map_or(lines.len() - at, |length| length + 1);
        } else {
            count += 1;
            at += 1;
        }
    }
    count
}

/// Uses of macros that mean "not done", also inside the arguments of other macros.
#[derive(Default)]
struct Unfinished {
    /// Macro name -> how often.
    found: BTreeMap<String, usize>,
}

impl Unfinished {
    fn note(&mut self, name: String) {
        if name == "todo" || name == "unimplemented" {
            *self.found.entry(name).or_default() += 1;
        }
    }

    fn scan(&mut self, tokens: TokenStream) {
        let mut before = None;
        for token in tokens {
            match &token {
                TokenTree::Punct(mark) if mark.as_char() == '!' => {
                    before.take().into_iter().for_each(|name| self.note(name))
                }
                TokenTree::Group(group) => self.scan(group.stream()),
                _ => {}
            }
            before = if let TokenTree::Ident(name) = &token { Some(name.to_string()) } else { None };
        }
    }
}

impl<'ast> Visit<'ast> for Unfinished {
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        if let Some(last) = mac.path.segments.last() {
            self.note(last.ident.to_string());
        }
        self.scan(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }
}

#[test]
fn a_file_without_a_purpose_is_refused() {
    let path = Path::new("src/a.rs");
    let complaint = ["src/a.rs: does not begin with a `//!` line that says what it is for"];
    assert_eq!(check(path, "use std::fmt;\n//! too late\n").first().map(String::as_str), Some(complaint[0]));
    assert_eq!(check(path, "//!\nfn a() {}\n"), complaint);
    assert_eq!(check(path, ""), complaint);
    assert!(check(path, "#![allow(dead_code)]\n\n//! Adds.\nfn a() {}\n").is_empty());
}

#[test]
fn a_long_file_is_refused_and_unit_tests_do_not_count() {
    let path = Path::new("src/a.rs");
    let body = |lines: usize| format!("//! Long.\n{}", "// line\n".repeat(lines - 1));
    assert!(check(path, &body(800)).is_empty());
    assert_eq!(check(path, &body(801)), ["src/a.rs: has 801 lines without its tests, 800 are allowed"]);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // line\n".repeat(500));
    assert!(check(path, &format!("{}{tests}", body(800))).is_empty());
    assert_eq!(check(path, &format!("{}{tests}", body(801))).len(), 1);
    assert!(check(Path::new("tests/long.rs"), &body(2000)).is_empty());
}

#[test]
fn chance_is_refused_where_simulations_run() {
    let text = "//! Waits.\nfn a() {\n    tokio::select! {\n        () = b => {}\n    }\n}\n";
    let path = Path::new("crates/net/src/a.rs");
    assert_eq!(check(path, text), ["crates/net/src/a.rs: a select! without `biased;` leaves a simulation to chance"]);
    assert!(check(Path::new("bench/src/a.rs"), text).is_empty());
    assert!(check(path, &text.replace("        () = b", "        biased;\n        () = b")).is_empty());
}

#[test]
fn unfinished_code_is_refused_wherever_it_hides() {
    let path = Path::new("src/a.rs");
    let bad = "//! Bad.\nfn a() { todo!() }\nfn b() { println!(\"{}\", core::unimplemented!(\"later\")) }\n";
    assert_eq!(check(path, bad), ["src/a.rs: contains todo! (1)", "src/a.rs: contains unimplemented! (1)"]);
    let fine = "//! Fine: todo!() in a comment.\nfn a(todo: bool) { assert!(!todo, \"todo!()\") }\n";
    assert_eq!(check(path, fine), Vec::<String>::new());
}

#[test]
fn a_file_that_is_not_rust_is_refused() {
    assert!(check(Path::new("src/a.rs"), "//! Broken.\nfn a( {").first().unwrap().contains("is not Rust"));
}
