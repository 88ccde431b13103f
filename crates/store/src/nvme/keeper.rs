//! Looks after one directory from a thread of its own: the ticks its device is watched by, and probes while it is out of service.
//!
//! A probe writes a sector behind the last segment and reads it back: a device that only reads, or lies, does not come back. One probe at a
//! time, each failure doubles the time to the next one. The thread never waits for the device.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_runtime::{clock, rng, task};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::bell::Bell;
use super::layout::SECTOR;
use super::watch::{Outage, Watched};
use crate::io::buffer::{Buf, Pool};
use crate::io::device::Op;

/// The time between probes doubles up to so many times the first.
const BACKOFF_MAX: u32 = 12;

/// Ticks between two looks at the file system: 10 s by default.
const ALSO_TICKS: u64 = 20;

/// What a keeper needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Care {
    /// Between two ticks.
    pub(crate) tick: Duration,
    /// Between leaving service and the first probe.
    pub(crate) probe: Duration,
    /// Where the probed sector lies.
    pub(crate) probe_at: u64,
}

/// Stops the thread when dropped.
#[derive(Debug)]
pub(crate) struct Keeper(Arc<Bell>);

impl Keeper {
    /// Starts to look after `device`; `also` is done every [`ALSO_TICKS`] while it is in service.
    pub(crate) fn start(device: Watched, pool: Pool, care: Care, mut also: impl FnMut() + Send + 'static) -> Keeper {
        let bell = Arc::new(Bell::default());
        let keeper = Keeper(Arc::clone(&bell));
        let mut probing = Probing { device, pool, care, state: State::Working };
        task::thread("store-keep", move || {
            let mut ticks = 0u64;
            while !bell.rang_within(care.tick) {
                probing.turn();
                ticks += 1;
                if ticks.is_multiple_of(ALSO_TICKS) && probing.device.works() {
                    also();
                }
            }
        });
        keeper
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.ring();
    }
}

struct Probing {
    device: Watched,
    pool: Pool,
    care: Care,
    state: State,
}

enum State {
    /// In service, as far as the thread knows.
    Working,
    /// Out of service; the next probe is due at this time.
    Waiting { due: Instant, backoff: u32 },
    /// A probe is with the device.
    Probe { nonce: u64, op: Op, answer: oneshot::Receiver<io::Result<Buf>>, backoff: u32 },
}

impl Probing {
    fn turn(&mut self) {
        self.device.tick();
        self.state = match std::mem::replace(&mut self.state, State::Working) {
            State::Working => match self.device.outage() {
                Some(Outage::Failed(_)) => State::Waiting { due: clock::now() + self.care.probe, backoff: 1 },
                _ => State::Working,
            },
            State::Waiting { due, backoff } if clock::now() < due || !self.device.is_idle() => {
                State::Waiting { due, backoff }
            }
            State::Waiting { backoff, .. } => self.write(backoff),
            State::Probe { nonce, op, answer, backoff } => self.look(nonce, op, answer, backoff),
        };
    }

    fn write(&self, backoff: u32) -> State {
        let nonce = rng::random_u64();
        let mut buf = self.pool.get(SECTOR as usize);
        buf.fill(0);
        buf[..8].copy_from_slice(&nonce.to_le_bytes());
        let answer = self.device.probe(Op::Write, self.care.probe_at, buf);
        State::Probe { nonce, op: Op::Write, answer, backoff }
    }

    fn look(&self, nonce: u64, op: Op, mut answer: oneshot::Receiver<io::Result<Buf>>, backoff: u32) -> State {
        let again = || {
            let backoff = (backoff * 2).min(BACKOFF_MAX);
            State::Waiting { due: clock::now() + self.care.probe * backoff, backoff }
        };
        match answer.try_recv() {
            Err(TryRecvError::Empty) => State::Probe { nonce, op, answer, backoff },
            Err(TryRecvError::Closed) | Ok(Err(_)) => again(),
            Ok(Ok(mut buf)) => match op {
                Op::Write => {
                    buf.fill(0);
                    let answer = self.device.probe(Op::Read, self.care.probe_at, buf);
                    State::Probe { nonce, op: Op::Read, answer, backoff }
                }
                Op::Read if buf[..8] == nonce.to_le_bytes() => {
                    self.device.restore();
                    State::Working
                }
                Op::Read => again(),
            },
        }
    }
}
