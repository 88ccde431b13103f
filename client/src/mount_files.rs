//! The files in which a mount of ours says how it is: its metrics, and what it is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use shoal_fuse::{ACCESS_LOG_NAME, INTERNAL_PREFIX, STATS_NAME};

use crate::mount_state::MountState;

/// A mount of ours, found by a path in it.
pub(crate) struct MountFiles {
    pub state: MountState,
    /// Where it is mounted, as seen from here.
    root: PathBuf,
}

impl MountFiles {
    /// The mount that `path` lies in. Errors: it lies in none of this user.
    pub(crate) fn of(path: &Path) -> anyhow::Result<MountFiles> {
        let (state, _) = MountState::of(path)?;
        let root = state.mountpoint.clone();
        Ok(MountFiles { state, root })
    }

    /// Its metrics, in Prometheus' text format.
    pub(crate) fn stats_text(&self) -> anyhow::Result<String> {
        let path = self.path(STATS_NAME);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The file that gives a line for each request while it is read.
    pub(crate) fn access_log(&self) -> PathBuf {
        self.path(ACCESS_LOG_NAME)
    }

    /// The file `name` of the mount's own, whether its names have a prefix or not.
    fn path(&self, name: &str) -> PathBuf {
        let plain = self.root.join(name);
        if plain.exists() { plain } else { self.root.join(format!("{INTERNAL_PREFIX}{name}")) }
    }
}

/// Metrics as they were once: values by name and labels, as the page writes them.
pub(crate) struct Sample(BTreeMap<String, f64>);

impl Sample {
    pub(crate) fn parse(text: &str) -> Sample {
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Sample(text.lines().filter(|line| !line.starts_with('#')).filter_map(value).collect())
    }

    /// The sum over every label of the metric `name` that has all of `labels`, such as `tier="ram"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is = |key: &str| {
            key.strip_prefix(name).is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{')) && labels.iter().all(|label| rest.contains(label))
            })
        };
        self.0.iter().filter(|(key, _)| is(key)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let page =
            "# HELP a x\n# TYPE a counter\na{tier=\"ram\"} 3\na{tier=\"peer\"} 4\nab 7\nb_sum{op=\"read\"} 0.5\n";
        let sample = Sample::parse(page);
        assert_eq!(sample.sum("a", &[]), 7.0);
        assert_eq!(sample.sum("a", &["tier=\"ram\""]), 3.0);
        assert_eq!((sample.sum("ab", &[]), sample.sum("b_sum", &[]), sample.sum("none", &[])), (7.0, 0.5, 0.0));
    }
}
