//! What a node counts beside what every cache does: blocks from and to peers, demand, overload.

use shoal_runtime::metrics::{Counter, Gauge, Registry};
use shoal_types::Class;

/// What became of a block that was offered to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// The owner took it.
    Moved,
    /// The owner had it.
    Already,
    /// Nobody took it.
    Failed,
}

impl Handed {
    const ALL: [Handed; 3] = [Handed::Moved, Handed::Already, Handed::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Handed::Moved => "moved",
            Handed::Already => "already",
            Handed::Failed => "failed",
        }
    }
}

/// A node's own metrics.
#[derive(Debug)]
pub(crate) struct NodeMeter {
    taken_blocks: Counter,
    taken_bytes: Counter,
    handed: [Counter; 3],
    handed_bytes: Counter,
    handing_over: Gauge,
    hints: Counter,
    parts: Counter,
    refused: [Counter; Class::ALL.len()],
}

impl NodeMeter {
    pub(crate) fn new(registry: &Registry) -> NodeMeter {
        let handed = registry.counters(
            "shoal_cache_handed_blocks_total",
            "Blocks offered to their owners after a change of the ring or before leaving, by what became of them.",
            &["outcome"],
        );
        let refused = registry.counters(
            "shoal_cache_refused_fills_total",
            "Blocks not fetched because too many others waited, by class.",
            &["class"],
        );
        NodeMeter {
            taken_blocks: registry
                .counter("shoal_cache_taken_blocks_total", "Blocks of which other nodes gave all or a part."),
            taken_bytes: registry.counter(
                "shoal_cache_taken_bytes_total",
                "Bytes that came from other nodes instead of the object store.",
            ),
            handed: Handed::ALL.map(|outcome| handed.with(&[outcome.as_str()])),
            handed_bytes: registry
                .counter("shoal_cache_handed_bytes_total", "Bytes of blocks that other nodes took over from this one."),
            handing_over: registry
                .gauge("shoal_cache_handing_over", "1 while this node offers blocks to their owners, else 0."),
            hints: registry.counter(
                "shoal_cache_hot_answers_total",
                "Answers that told a client to spread its reads over more owners.",
            ),
            parts: registry.counter(
                "shoal_cache_parts_total",
                "Small reads of missed blocks that got their bytes ahead of the block.",
            ),
            refused: std::array::from_fn(|i| refused.with(&[Class::ALL[i].as_str()])),
        }
    }

    /// A peer begins to give bytes of a block.
    pub(crate) fn takes(&self) {
        self.taken_blocks.inc();
    }

    /// `bytes` came from a peer.
    pub(crate) fn taken(&self, bytes: usize) {
        self.taken_bytes.add(bytes as u64);
    }

    /// `blocks` that were offered came to this.
    pub(crate) fn handed(&self, outcome: Handed, blocks: u64) {
        self.handed[outcome as usize].add(blocks);
    }

    /// `bytes` of blocks were taken over.
    pub(crate) fn handed_bytes(&self, bytes: u64) {
        self.handed_bytes.add(bytes);
    }

    /// A hand-over begins; it ends when the guard is dropped.
    pub(crate) fn handing_over(&self) -> HandingOver {
        self.handing_over.inc();
        HandingOver(self.handing_over.clone())
    }

    /// An answer carried a hint.
    pub(crate) fn hinted(&self) {
        self.hints.inc();
    }

    /// A part came ahead of its block.
    pub(crate) fn part(&self) {
        self.parts.inc();
    }

    /// A fill was not started.
    pub(crate) fn refused(&self, class: Class) {
        self.refused[class as usize].inc();
    }
}

/// One hand-over under way, in the gauge.
#[derive(Debug)]
pub(crate) struct HandingOver(Gauge);

impl Drop for HandingOver {
    fn drop(&mut self) {
        self.0.dec();
    }
}
