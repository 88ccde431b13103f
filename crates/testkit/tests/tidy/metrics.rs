//! Every metric is explained in deploy/METRICS.md, and nothing is explained that is not there.

use std::collections::BTreeSet;

/// Prefix of metrics that only tests make.
const TEST_PREFIX: &str = "shoal_test_";

/// What a histogram's page adds to its name.
const SERIES: [&str; 3] = ["_count", "_sum", "_bucket"];

/// Names of metrics between `open` and `close` in `text`.
fn names(text: &str, open: char, close: char) -> BTreeSet<&str> {
    let is_name = |word: &&str| {
        word.starts_with("shoal_")
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let words = text.match_indices(open).filter_map(|(at, _)| text[at + 1..].split_once(close).map(|(word, _)| word));
    let is_other = |name: &&str| name.starts_with(TEST_PREFIX) || SERIES.iter().any(|suffix| name.ends_with(suffix));
    words.filter(is_name).filter(|name| !is_other(name)).collect()
}

/// Complaints about metrics declared in `sources` and explained in `page`.
pub fn check<'a>(sources: impl Iterator<Item = &'a str>, page: &str) -> Vec<String> {
    let declared: BTreeSet<&str> = sources.flat_map(|text| names(text, '"', '"')).collect();
    let explained: BTreeSet<&str> = names(page, '`', '`');
    let missing = declared.difference(&explained).map(|name| format!("deploy/METRICS.md does not explain {name}"));
    let stale =
        explained.difference(&declared).map(|name| format!("deploy/METRICS.md explains {name}, which does not exist"));
    missing.chain(stale).collect()
}

#[test]
fn an_unexplained_and_a_vanished_metric_are_named() {
    let source = r#"counter("shoal_cache_x_total", "X"); "shoal_test_y"; "shoal-node"; "shoal_Not"#;
    let complaints = check([source].into_iter(), "| `shoal_cache_z` | gauge |");
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].contains("shoal_cache_x_total") && complaints[1].contains("shoal_cache_z"));
    assert!(check([source].into_iter(), "`shoal_cache_x_total`").is_empty());
}
