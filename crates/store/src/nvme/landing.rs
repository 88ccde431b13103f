//! A batch on its way to the device in one write or several.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::watch::{Ticket, Watched};
use crate::io::buffer::Buf;
use crate::io::device::{Cargo, ended};

/// Counts the writes of one batch; the last to end says what became of all. A batch that a dying device drops just goes.
pub(crate) struct Landing {
    left: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The batch is under way as long as this lives; `None` if it was refused.
    ticket: Option<Ticket>,
    error: Option<io::Error>,
    /// Pieces of one buffer that came back.
    landed: Vec<(u32, Buf)>,
}

impl Landing {
    /// A batch of `pieces` writes to `segment` of `device`; waits while there are too many.
    pub(crate) fn begin(device: &Watched, segment: u32, pieces: usize) -> Arc<Landing> {
        let state = match device.begin_write(segment) {
            Ok(ticket) => State { ticket: Some(ticket), ..State::default() },
            Err(error) => State { error: Some(error), ..State::default() },
        };
        Arc::new(Landing { left: AtomicUsize::new(pieces), state: Mutex::new(state) })
    }

    /// Says what to do once the batch counts or has failed; to be called before the last piece is sent.
    pub(crate) fn then(&self, then: impl FnOnce(io::Result<()>) + Send + 'static) {
        let state = &mut *self.state.lock();
        match (&state.ticket, state.error.take()) {
            (Some(ticket), error) => {
                state.error = error;
                ticket.then(Box::new(then));
            }
            (None, error) => then(Err(error.unwrap_or_else(ended))),
        }
    }

    /// Hands a piece to the device, unless the batch was refused: it goes to `offset`, which is byte `at` of the segment.
    pub(crate) fn send(self: &Arc<Landing>, device: &Watched, offset: u64, at: u32, cargo: Cargo) {
        if self.state.lock().ticket.is_none() {
            return;
        }
        let landing = Arc::clone(self);
        device.write(offset, cargo, Box::new(move |result, cargo| landing.landed(at, cargo.into_buf(), result)));
    }

    /// The piece at byte `at` of the segment was written, or not.
    fn landed(&self, at: u32, buf: Option<Buf>, result: io::Result<()>) {
        let mut state = self.state.lock();
        state.landed.extend(buf.map(|buf| (at, buf)));
        if let Err(error) = result {
            state.error.get_or_insert(error);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let State { ticket, error, mut landed } = std::mem::take(&mut *state);
        drop(state);
        // Joined again the buffer returns to its pool.
        landed.sort_unstable_by_key(|(at, _)| *at);
        drop(landed.into_iter().map(|(_, buf)| buf).reduce(Buf::join));
        if let Some(ticket) = ticket {
            ticket.end_write(error.map_or(Ok(()), Err));
        }
    }
}
