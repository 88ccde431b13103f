//! The demo's table: what each phase took, and where its bytes came from.

use std::path::Path;
use std::time::Duration;

use shoal_fuse::STATS_NAME;
use shoal_runtime::metrics::Registry;
use shoal_types::{ByteSize, Tier};
use shoal_volume::RingOptions;

use super::data::Expected;
use crate::status::ask_nodes;
use crate::table::Table;

/// One phase of the demo.
pub(crate) struct Phase {
    name: String,
    wall: Duration,
    files: Option<u64>,
    bytes: Option<u64>,
    tiers: Option<[u64; 4]>,
    gets: Option<u64>,
    blocks: u64,
}

impl Phase {
    pub(crate) fn import(wall: Duration, files: u64, bytes: u64) -> Phase {
        Phase {
            name: "import".into(),
            wall,
            files: Some(files),
            bytes: Some(bytes),
            tiers: None,
            gets: None,
            blocks: 0,
        }
    }

    pub(crate) fn warm_up(wall: Duration, gets: u64, blocks: u64) -> Phase {
        Phase { name: "warm-up".into(), wall, files: None, bytes: None, tiers: None, gets: Some(gets), blocks }
    }

    pub(crate) fn read(
        number: usize,
        wall: Duration,
        read: &Expected,
        tiers: [u64; 4],
        gets: u64,
        blocks: u64,
    ) -> Phase {
        let (files, bytes) = (Some(read.files() as u64), Some(read.bytes));
        Phase {
            name: format!("read, mount {number}"),
            wall,
            files,
            bytes,
            tiers: Some(tiers),
            gets: Some(gets),
            blocks,
        }
    }

    fn cells(&self) -> Vec<String> {
        let count = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let size = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| ByteSize(number).to_string());
        let seconds = self.wall.as_secs_f64();
        let rate = self
            .bytes
            .map_or_else(|| "-".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6 / seconds.max(0.001)));
        let tier = |tier: Tier| size(self.tiers.map(|tiers| tiers[tier as usize]));
        let per_block = match self.gets {
            Some(gets) if self.blocks > 0 => format!("{:.2}", gets as f64 / self.blocks as f64),
            _ => "-".to_owned(),
        };
        vec![
            self.name.clone(),
            count(self.files),
            size(self.bytes),
            format!("{seconds:.1} s"),
            rate,
            tier(Tier::Ram),
            tier(Tier::Peer),
            tier(Tier::Origin),
            count(self.gets),
            per_block,
        ]
    }
}

/// All phases so far.
#[derive(Default)]
pub(crate) struct Report(Vec<Phase>);

impl Report {
    pub(crate) fn phase(&mut self, phase: Phase) {
        self.0.push(phase);
    }

    pub(crate) fn render(&self) -> String {
        let mut table = Table::new(&[
            "PHASE",
            "FILES",
            "BYTES",
            "WALL",
            "MB/S",
            "FROM RAM",
            "FROM PEERS",
            "FROM ORIGIN",
            "NODES' ORIGIN GETS",
            "PER BLOCK",
        ]);
        for phase in &self.0 {
            table.row(phase.cells());
        }
        table.render()
    }
}

/// Requests the nodes have made of the origin so far.
pub(crate) async fn origin_requests(ring: &RingOptions) -> anyhow::Result<u64> {
    let nodes = ask_nodes(ring, &Registry::new()).await?;
    nodes.into_iter().map(|node| node.stat.map(|stat| stat.origin_requests)).sum()
}

/// Bytes the mount has delivered so far, by tier, from its own metrics.
pub(crate) fn bytes_by_tier(mount: &Path) -> anyhow::Result<[u64; 4]> {
    let text = std::fs::read_to_string(mount.join(STATS_NAME))?;
    Ok(Tier::ALL.map(|tier| tier_bytes(&text, tier)))
}

fn tier_bytes(text: &str, tier: Tier) -> u64 {
    let name = format!("shoal_cache_read_bytes_total{{tier=\"{tier}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tier_bytes_are_read_from_the_metrics_text() {
        let text =
            "# HELP x\nshoal_cache_read_bytes_total{tier=\"peer\"} 42\nshoal_cache_read_bytes_total{tier=\"ram\"} 7\n";
        assert_eq!(tier_bytes(text, Tier::Peer), 42);
        assert_eq!(tier_bytes(text, Tier::Origin), 0);
    }
}
