//! What every subcommand that races ours with a limit is asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shoal_types::ByteSize;

use crate::placement::Place;
use crate::race::{Case, race};
use crate::report::Row;
use crate::sample::Effort;

/// Flags of `store`, `peer`, `mount` and `gate`.
#[derive(Debug, Clone, clap::Args)]
pub struct RaceArgs {
    /// Directory on the disk to measure; test files are made there and removed.
    #[arg(long, default_value = "/var/tmp")]
    pub dir: PathBuf,
    /// Bytes of test data, at least 32 MiB. More than the disk's own cache tells the truth about the disk.
    #[arg(long, default_value = "512MiB")]
    pub size: ByteSize,
    /// Rounds; each takes one sample of ours and of the limit, right after one another.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Milliseconds one sample takes.
    #[arg(long, default_value_t = 300)]
    pub time_ms: u64,
    /// CPUs of the two ends, the same for ours and the limit; left out, `apart` where one end asks another over the network, as
    /// hosts are, and `free` everywhere else.
    #[arg(long, value_enum)]
    pub place: Option<Place>,
    /// Measure only rows whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
    /// Also write the result to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Which rows to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// All.
    All,
    /// Those with a goal.
    WithGoal,
}

impl RaceArgs {
    /// Where the JSON goes.
    pub fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }

    /// Bytes of test data: whole blocks, at least eight.
    pub fn bytes(&self) -> u64 {
        const BLOCK: u64 = crate::limits::BLOCK as u64;
        (self.size.0 / BLOCK).max(8) * BLOCK
    }

    /// Measures those of `cases` that `rows` asks for.
    pub fn race(&self, mut cases: Vec<Case<'_>>, rows: Rows) -> anyhow::Result<Vec<Row>> {
        let only = self.only.as_deref().unwrap_or_default();
        cases.retain(|case| (rows == Rows::All || case.has_goal()) && case.name().contains(only));
        race(&mut cases, self.rounds, &Effort::lasting(Duration::from_millis(self.time_ms)))
    }
}
