//! `shoal summary`: how much lies below a directory, and in its largest entries. Flags, defaults and output are JuiceFS's.

use std::path::PathBuf;

use anyhow::Context;
use shoal_meta::{Counting, Summary, TreeSummary, show_name};
use shoal_runtime::metrics::Registry;
use shoal_volume::{Access, OpenOptions, Volume};

use crate::sizes::short;
use crate::table::Table;
use crate::target::{locate, shown};

/// Flags of `summary`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory in a mount, or in the volume with --meta
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Metadata URL of the volume, when it is not mounted here
    #[arg(long, value_name = "META-URL")]
    meta: Option<String>,
    /// Levels of the tree to show, 0 for the top alone
    #[arg(long, short, default_value_t = 2, value_name = "N")]
    depth: u32,
    /// Entries of each directory to show, the largest ones
    #[arg(long, short, default_value_t = 10, value_name = "N")]
    entries: usize,
    /// Count every inode instead of trusting directories' statistics
    #[arg(long)]
    strict: bool,
    /// Print comma-separated values, sizes in bytes
    #[arg(long)]
    csv: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let located = locate(args.meta.as_deref(), std::slice::from_ref(&args.path))?;
    let volume = Volume::open(&located.url, &OpenOptions::new(Access::Read), &Registry::new()).await?;
    let path = located.paths.first().context("no path given")?;
    let found = volume.meta.resolve_path(path).await?;
    let (ino, attr) = found.with_context(|| format!("no such path in the volume: {}", shown(path)))?;
    let counting = if args.strict { Counting::Inodes } else { Counting::Statistics };
    let tree = volume.meta.tree_summary(ino, &attr, args.depth, args.entries, counting).await?;
    let mut rows = Vec::new();
    add_rows(&tree, "/", "", &mut rows);
    if args.csv {
        println!("PATH,SIZE,DIRS,FILES");
        for (path, Summary { size, dirs, files, .. }) in rows {
            println!("{},{size},{dirs},{files}", quoted(&path));
        }
        return Ok(());
    }
    let mut table = Table::new(&["PATH", "SIZE", "DIRS", "FILES"]);
    for (path, Summary { size, dirs, files, .. }) in rows {
        table.row(vec![path, short(size), dirs.to_string(), files.to_string()]);
    }
    print!("{}", table.framed(0));
    Ok(())
}

/// A row for `tree` named `shown`, and those of its entries, whose names stand behind `prefix`.
fn add_rows(tree: &TreeSummary, shown: &str, prefix: &str, rows: &mut Vec<(String, Summary)>) {
    rows.push((shown.to_owned(), tree.total));
    for entry in &tree.entries {
        let slash = if entry.total.dirs > 0 { "/" } else { "" };
        let path = format!("{prefix}{}{slash}", show_name(&entry.name));
        add_rows(entry, &path, &path, rows);
    }
    if let Some(others) = tree.others {
        rows.push((format!("{prefix}..."), others));
    }
}

/// A field of comma-separated values (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_real_clients() {
        let row = |name: &str, files, dirs, entries: Vec<TreeSummary>| TreeSummary {
            name: name.to_owned().into(),
            total: Summary { files, dirs, ..Summary::default() },
            entries,
            others: None,
        };
        let mut below = row("b", 3, 2, vec![row("f2", 1, 0, vec![]), row("c", 1, 1, vec![row("f3", 1, 0, vec![])])]);
        below.others = Some(Summary { files: 1, ..Summary::default() });
        let mut top = row("", 6, 3, vec![below, row("f1", 1, 0, vec![])]);
        top.others = Some(Summary { files: 2, ..Summary::default() });
        let mut rows = Vec::new();
        add_rows(&top, "/", "", &mut rows);
        let paths: Vec<&str> = rows.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/", "b/", "b/f2", "b/c/", "b/c/f3", "b/...", "f1", "..."]);
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
