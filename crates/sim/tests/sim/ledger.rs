//! What happened, and whether it was allowed to.
//!
//! Invariants, checked as things happen:
//!
//! 1. **No read fails** while its origin answers: an error is allowed only if the origin was down at some time of the read.
//! 2. **No wrong byte**: every byte of every read is compared.
//! 3. **One GET for a block**: in a *calm* (all nodes up and reachable, every view the same for [`crate::world::CALM_AFTER`], no
//!    request of the origin hanging, and no client that leaves a node alone) only the first owner of a block asks the origin for it,
//!    once at a time, and never for what it has had before in this life. Outside of a calm, views may differ and nodes be avoided, so
//!    that a replica and clients may ask as well: then what is asked beyond once is counted and printed.
//! 4. **Patience**: no read waits longer than the world's bound while its origin answers.
//!
//! Views are the world's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_cluster::View;
use shoal_runtime::clock;
use shoal_types::{BlockRange, NodeId};

use crate::blocks;

/// Who asked the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A node in one of its lives.
    Node(NodeId, u32),
    Client(u32),
}

/// The books; clones are the same.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<State>>);

struct State {
    began: Instant,
    /// In a calm: everyone's view and the lives of its nodes.
    calm: Option<Calm>,
    /// Who has had which block.
    filled: BTreeSet<(u32, Caller)>,
    /// Requests of the origin under way.
    flying: BTreeMap<u64, (u32, Caller, Instant)>,
    /// GETs of each block since the last calm.
    stormy: BTreeMap<u32, u32>,
    asked: BTreeSet<u32>,
    totals: Totals,
    number: u64,
    reads: BTreeMap<u64, Reading>,
    pauses: Pauses,
    origin_well: bool,
    origin_was_ill: Option<Instant>,
    violations: Vec<String>,
}

struct Calm {
    view: Arc<View>,
    lives: BTreeMap<NodeId, u32>,
}

struct Reading {
    client: u32,
    block: u32,
    began: Instant,
}

/// Counts of a whole run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub reads: u64,
    pub bytes: u64,
    /// Reads that failed while the origin was down.
    pub excused: u64,
    pub gets: u64,
    pub client_gets: u64,
    pub calm_gets: u64,
    /// Most GETs of one block in one storm.
    pub most_gets: u32,
}

/// How long reads took, in ms.
#[derive(Debug, Default)]
struct Pauses {
    calm: Vec<u32>,
    storm: Vec<u32>,
}

/// A block whose story is printed: `SHOAL_SIM_BLOCK`.
static TRACED: LazyLock<Option<u32>> = LazyLock::new(|| std::env::var("SHOAL_SIM_BLOCK").ok()?.parse().ok());

/// More violations than these say nothing more.
const VIOLATIONS_KEPT: usize = 20;

impl Ledger {
    pub fn new() -> Ledger {
        Ledger(Arc::new(Mutex::new(State {
            began: clock::now(),
            calm: None,
            filled: BTreeSet::new(),
            flying: BTreeMap::new(),
            stormy: BTreeMap::new(),
            asked: BTreeSet::new(),
            totals: Totals::default(),
            number: 0,
            reads: BTreeMap::new(),
            pauses: Pauses::default(),
            origin_well: true,
            origin_was_ill: None,
            violations: Vec::new(),
        })))
    }

    /// Time since the beginning, for people.
    pub fn time(&self) -> String {
        format!("{:7.3} s", (clock::now() - self.0.lock().began).as_secs_f64())
    }

    /// When the oldest request of the origin that is under way began.
    pub fn oldest_get(&self) -> Option<Instant> {
        self.0.lock().flying.values().map(|(_, _, began)| *began).min()
    }

    /// Something must not have been.
    pub fn violation(&self, what: impl fmt::Display) {
        self.0.lock().violation(what);
    }

    /// What must not have been, so far.
    pub fn violations(&self) -> Vec<String> {
        self.0.lock().violations.clone()
    }

    /// Node `id` may have lost blocks it had.
    pub fn lost(&self, id: NodeId) {
        self.0.lock().filled.retain(|(_, caller)| !matches!(caller, Caller::Node(node, _) if *node == id));
    }

    /// All is well from now on: `view` is everyone's.
    pub fn calm(&self, view: Arc<View>, lives: BTreeMap<NodeId, u32>) {
        let mut state = self.0.lock();
        state.stormy.clear();
        state.calm = Some(Calm { view, lives });
    }

    /// Something is about to break.
    pub fn storm(&self) {
        self.0.lock().calm = None;
    }

    /// Whether the origin can be expected to answer from now on.
    pub fn origin_is_well(&self, well: bool) {
        let mut state = self.0.lock();
        if !(well && state.origin_well) {
            state.origin_was_ill = Some(clock::now());
        }
        state.origin_well = well;
    }

    /// `caller` asks the origin for bytes of `block`.
    pub fn get(&self, block: u32, caller: Caller) -> Get {
        let mut state = self.0.lock();
        let state = &mut *state;
        if TRACED.is_some_and(|traced| traced == block) {
            println!(
                "    {:.3} s: {caller:?} asks the origin for block {block}",
                (clock::now() - state.began).as_secs_f64()
            );
        }
        state.number += 1;
        state.totals.gets += 1;
        state.totals.client_gets += u64::from(matches!(caller, Caller::Client(_)));
        state.asked.insert(block);
        let wrong = match &state.calm {
            None => {
                let gets = state.stormy.entry(block).or_default();
                *gets += 1;
                state.totals.most_gets = state.totals.most_gets.max(*gets);
                None
            }
            Some(calm) => {
                state.totals.calm_gets += 1;
                let owner = calm.view.owners(&blocks::block(block).key, 1)[0].id;
                let owner = Caller::Node(owner, calm.lives[&owner]);
                if caller != owner {
                    Some(format!("its owner is {owner:?}"))
                } else if state.filled.contains(&(block, caller)) {
                    Some("it has had the block before".to_owned())
                } else if state.flying.values().any(|(of, by, _)| (*of, *by) == (block, caller)) {
                    Some("it is asking already".to_owned())
                } else {
                    None
                }
            }
        };
        if let Some(why) = wrong {
            state.violation(format!("in a calm {caller:?} asked the origin for block {block}: {why}"));
        }
        state.flying.insert(state.number, (block, caller, clock::now()));
        Get { ledger: self.clone(), number: state.number }
    }

    /// `client` begins to read.
    pub fn read(&self, client: u32, block: u32) -> u64 {
        let mut state = self.0.lock();
        state.number += 1;
        let number = state.number;
        if TRACED.is_some_and(|traced| traced == block) {
            println!("    {:.3} s: client {client} reads block {block}", (clock::now() - state.began).as_secs_f64());
        }
        state.reads.insert(number, Reading { client, block, began: clock::now() });
        number
    }

    /// Read `number` ended with bytes `range` or a sentence.
    pub fn read_ended(&self, number: u64, range: BlockRange, result: Result<Bytes, String>) {
        let mut state = self.0.lock();
        let Some(Reading { client, block, began }) = state.reads.remove(&number) else { return };
        let ms = (clock::now() - began).as_millis() as u32;
        state.totals.reads += 1;
        match result {
            Ok(bytes) if blocks::is_right(block, range, &bytes) => {
                state.totals.bytes += bytes.len() as u64;
                let calm = state.calm.is_some();
                if calm { &mut state.pauses.calm } else { &mut state.pauses.storm }.push(ms);
            }
            Ok(_) => state.violation(format!("client {client} read wrong bytes of block {block}")),
            Err(_) if state.was_ill_since(began) => state.totals.excused += 1,
            Err(error) => state.violation(format!("client {client} could not read block {block}: {error}")),
        }
    }

    /// Complains of reads that have waited longer than `patience`, each once.
    pub fn check_patience(&self, patience: Duration) {
        let mut state = self.0.lock();
        let now = clock::now();
        let late: Vec<u64> =
            state.reads.iter().filter(|(_, read)| now - read.began > patience).map(|(number, _)| *number).collect();
        for number in late {
            let Some(Reading { client, block, began }) = state.reads.remove(&number) else { continue };
            if !state.was_ill_since(began) {
                state.violation(format!("client {client} has waited {patience:?} for block {block}"));
            }
        }
    }
}

impl State {
    fn violation(&mut self, what: impl fmt::Display) {
        let at = (clock::now() - self.began).as_secs_f64();
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(format!("{at:.3} s: {what}"));
        }
    }

    fn was_ill_since(&self, then: Instant) -> bool {
        !self.origin_well || self.origin_was_ill.is_some_and(|ill| ill >= then)
    }
}

/// A request of the origin under way.
pub struct Get {
    ledger: Ledger,
    number: u64,
}

impl Get {
    /// All bytes of the block were handed out.
    pub fn completed(&self) {
        let mut state = self.ledger.0.lock();
        if let Some((block, caller, _)) = state.flying.get(&self.number).copied() {
            state.filled.insert((block, caller));
        }
    }
}

impl Drop for Get {
    fn drop(&mut self) {
        self.ledger.0.lock().flying.remove(&self.number);
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut state = self.0.lock();
        let Totals { reads, bytes, excused, gets, client_gets, calm_gets, most_gets } = state.totals;
        let asked = state.asked.len() as u64;
        let (calm, storm) = (quantiles(&mut state.pauses.calm), quantiles(&mut state.pauses.storm));
        write!(
            f,
            "{reads} reads of {} MB ({excused} excused), pauses p50/p99/max calm {calm}, storm {storm}; {gets} GETs of {asked} blocks \
             (excess {:.2}), {calm_gets} in calms, {client_gets} by clients, at most {most_gets} of a block in a storm",
            bytes >> 20,
            gets as f64 / asked.max(1) as f64 - 1.0,
        )
    }
}

fn quantiles(times: &mut [u32]) -> String {
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    let ms = |share| at(share).copied().unwrap_or(0);
    format!("{}/{}/{} ms", ms(0.5), ms(0.99), ms(1.0))
}
