//! Rule on the modules of one crate: siblings never use each other in a circle, at no depth.
//!
//! A use is a `use` declaration or a path that begins with `crate`, `self` or `super`, also inside macro arguments. It counts
//! between the two ancestors that are siblings: `a::x` using `b::y` makes an edge from `a` to `b`. An item re-exported by `lib.rs`
//! and used as `crate::Item` belongs to the crate, not to the module behind it. Code under `#[cfg(test)]` is free.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A module's path below the crate, empty for the root.
type ModulePath = Vec<String>;

/// One file of a library and the module it is.
pub struct ModuleFile {
    module: ModulePath,
    shown: PathBuf,
    text: String,
}

impl ModuleFile {
    /// The file at `path` below `src`; None for binaries and out-of-line test modules.
    pub fn new(path: &Path, shown: &Path, text: &str) -> Option<ModuleFile> {
        let mut module: ModulePath =
            path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let last = module.last()?.clone();
        if module == ["main"] || module.first().is_some_and(|first| first == "bin") || last == "tests" {
            return None;
        }
        if module == ["lib"] || last == "mod" {
            module.pop();
        }
        Some(ModuleFile { module, shown: shown.to_owned(), text: text.to_owned() })
    }
}

/// A complaint for each circle among sibling modules of the library `name`.
pub fn cycles(name: &str, files: &[ModuleFile]) -> Vec<String> {
    let mut known: BTreeSet<ModulePath> = files.iter().map(|file| file.module.clone()).collect();
    let mut uses = Vec::new();
    for file in files {
        // What does not parse is another rule's complaint.
        let Ok(parsed) = syn::parse_file(&file.text) else { continue };
        let mut collector = Collector { here: file.module.clone(), inline: Vec::new(), uses: Vec::new() };
        collector.visit_file(&parsed);
        known.extend(collector.inline);
        uses.extend(collector.uses.into_iter().map(|(from, to)| (from, to, &file.shown)));
    }
    // Parent -> sibling -> sibling it uses -> a file that does.
    let mut graphs: BTreeMap<ModulePath, Graph> = BTreeMap::new();
    for (from, to, shown) in uses {
        let length = (0..=to.len()).rev().find(|length| known.contains(&to[..*length])).unwrap_or(0);
        let target = &to[..length];
        let common = from.iter().zip(target).take_while(|(a, b)| a == b).count();
        if let (Some(ours), Some(theirs)) = (from.get(common), target.get(common)) {
            let graph = graphs.entry(from[..common].to_vec()).or_default();
            graph.entry(ours.clone()).or_default().entry(theirs.clone()).or_insert_with(|| shown.display().to_string());
        }
    }
    let complaints =
        graphs.iter().flat_map(|(parent, graph)| circles(graph).into_iter().map(move |circle| (parent, circle)));
    complaints
        .map(|(parent, circle)| {
            [&[name.to_owned()], &parent[..]].concat().join("::") + ": modules in a circle: " + &circle
        })
        .collect()
}

/// Module -> module it uses -> a file that does.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// One shortest circle through the first module of each strongly connected group.
fn circles(graph: &Graph) -> Vec<String> {
    let mut reported: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for start in graph.keys().filter_map(|start| Some((start, shortest_circle(graph, start)?))) {
        let (start, circle) = start;
        if reported.contains(start.as_str()) {
            continue;
        }
        reported.extend(circle.iter().copied());
        let pairs = circle.iter().zip(circle.iter().cycle().skip(1));
        let steps: Vec<String> = pairs.map(|(from, to)| format!("{from} -> {to} ({})", graph[*from][*to])).collect();
        found.push(steps.join(", "));
    }
    found
}

fn shortest_circle<'a>(graph: &'a Graph, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut frontier = vec![start];
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for module in frontier {
            for target in graph.get(module).into_iter().flat_map(BTreeMap::keys).map(String::as_str) {
                if target == start {
                    let mut circle = vec![module];
                    while let Some(before) = came_from.get(circle[circle.len() - 1]) {
                        circle.push(before);
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if !came_from.contains_key(target) {
                    came_from.insert(target, module);
                    next.push(target);
                }
            }
        }
        frontier = next;
    }
    None
}

/// Uses of other modules in one file: (module of the use, absolute path used).
struct Collector {
    here: ModulePath,
    inline: Vec<ModulePath>,
    uses: Vec<(ModulePath, ModulePath)>,
}

impl Collector {
    /// Notes `path` if it begins with `crate`, `self` or `super`.
    fn note(&mut self, path: &[String]) {
        let (first, mut rest) = match path.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => return,
        };
        let mut absolute = match first {
            "crate" => Vec::new(),
            "self" => self.here.clone(),
            "super" => self.here[..self.here.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        while let Some((_, tail)) = rest.split_first().filter(|(next, _)| *next == "super") {
            absolute.pop();
            rest = tail;
        }
        absolute.extend(rest.iter().cloned());
        self.uses.push((self.here.clone(), absolute));
    }

    fn note_tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.note_tree(prefix, &path.tree);
                prefix.pop();
            }
            syn::UseTree::Name(name) => self.note_leaf(prefix, &name.ident),
            syn::UseTree::Rename(rename) => self.note_leaf(prefix, &rename.ident),
            syn::UseTree::Glob(_) => self.note(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.note_tree(prefix, item)),
        }
    }

    fn note_leaf(&mut self, prefix: &[String], ident: &syn::Ident) {
        let mut path = prefix.to_vec();
        path.extend(Some(ident.to_string()).filter(|name| name != "self"));
        self.note(&path);
    }

    /// Paths in the arguments of a macro, which syn does not parse.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.note(&std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.note(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.note(&path);
    }
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || matches!(&attribute.meta, syn::Meta::List(list) if list.path.is_ident("cfg") && mentions_test(list.tokens.clone()))
    })
}

/// Whether a `cfg` predicate holds only in tests: `test` itself or inside `all(…)`, not inside `not(…)` or `any(…)`.
fn mentions_test(tokens: TokenStream) -> bool {
    let mut before = String::new();
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(name) => {
            before = name.to_string();
            before == "test"
        }
        TokenTree::Group(group) => before == "all" && mentions_test(group.stream()),
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test_only(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.here.push(item.ident.to_string());
            self.inline.push(self.here.clone());
            visit::visit_item_mod(self, item);
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.scan(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }
}

#[cfg(test)]
fn library(files: &[(&str, &str)]) -> Vec<ModuleFile> {
    files.iter().filter_map(|(path, text)| ModuleFile::new(Path::new(path), Path::new(path), text)).collect()
}

#[test]
fn two_modules_that_use_each_other_are_refused() {
    let files = library(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::{self, Thing};"),
        ("b.rs", "fn f() -> crate::a::Other { super::c::g() }"),
        ("c.rs", "pub fn g() {}"),
    ]);
    assert_eq!(cycles("x", &files), ["x: modules in a circle: a -> b (a.rs), b -> a (b.rs)"]);
}

#[test]
fn a_longer_circle_is_found_through_macros_nested_files_and_super() {
    let files = library(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a/mod.rs", "mod inner;"),
        ("a/inner.rs", "fn f() { println!(\"{}\", crate::b::LIMIT) }"),
        ("b.rs", "use super::c as other;"),
        ("c.rs", "mod deep { use super::super::a::Thing; }"),
    ]);
    assert_eq!(cycles("x", &files), ["x: modules in a circle: a -> b (a/inner.rs), b -> c (b.rs), c -> a (c.rs)"]);
}

#[test]
fn siblings_below_a_module_may_not_circle_either() {
    let files = library(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod x; mod y; pub use x::X;"),
        ("a/x.rs", "use super::y::Y;"),
        ("a/y.rs", "use crate::a::x::X;"),
    ]);
    assert_eq!(cycles("n", &files), ["n::a: modules in a circle: x -> y (a/x.rs), y -> x (a/y.rs)"]);
}

#[test]
fn downward_uses_tests_and_re_exports_of_the_crate_are_fine() {
    let files = library(&[
        ("lib.rs", "mod a; mod b; pub use a::Thing; pub use b::Other;"),
        ("a.rs", "use crate::Other; #[cfg(test)] mod tests { use crate::b::Other; use super::*; }"),
        (
            "b.rs",
            "use crate::a::Thing; use self::inner::X; mod inner { use super::Y; pub struct X; } #[test] fn t() { crate::a::f(); }",
        ),
        ("bin/tool.rs", "use crate::b::Nothing;"),
        ("main.rs", "mod b;"),
    ]);
    assert_eq!(cycles("x", &files), Vec::<String>::new());
}
