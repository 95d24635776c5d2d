//! The threads of a walk: one leads and hands out what it computed, the others compare and perhaps take it over.
//!
//! Who ends early lets go of its end of the channel, which ends the others; nobody waits for one that is gone.

use super::super::LoadedModel;
use super::Table;
use crate::engine::{Observer, Op, Tap};
use crate::{Error, Kind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// An output of the original.
pub(super) struct Shown {
    tap: Tap,
    values: Arc<Vec<f32>>, // [tap.n, width]
}

/// How a follower goes on after it has compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// With the original's output: errors are local.
    Forced,
    /// With its own: errors come together.
    Free,
}

/// Computes the original.
pub(super) struct Lead {
    channels: Vec<SyncSender<Arc<Shown>>>,
    until: Option<Instant>,
}

/// Computes beside it. What it holds is shared with the thread that runs it, which takes the table from it in the end.
struct Follower(Arc<Mutex<Following>>);

struct Following {
    shown: Receiver<Arc<Shown>>,
    /// Taken from the channel, and not yet compared.
    held: Option<Arc<Shown>>,
    mode: Mode,
    table: Table,
}

impl Lead {
    pub fn new(channels: Vec<SyncSender<Arc<Shown>>>, until: Option<Instant>) -> Lead {
        Lead { channels, until }
    }

    /// Feeds `ids` in pieces.
    pub fn run(self, model: &LoadedModel, ids: &[u32], piece: usize) -> Result<()> {
        feed(model, Box::new(self), ids, piece)
    }
}

impl Observer for Lead {
    fn wants(&self, _: Op) -> bool {
        true
    }

    fn see(&mut self, tap: Tap, values: Vec<f32>) -> Result<Option<Arc<Vec<f32>>>> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::new(Kind::Environment, "lockstep", "the time for the walk is over"));
        }
        let shown = Arc::new(Shown { tap, values: Arc::new(values) });
        match self.channels.iter().all(|channel| channel.send(Arc::clone(&shown)).is_ok()) {
            true => Ok(None),
            false => Err(left_alone()),
        }
    }
}

/// Computes `model` beside what comes through `shown`.
pub(super) fn follow(
    model: &LoadedModel,
    shown: Receiver<Arc<Shown>>,
    mode: Mode,
    ids: &[u32],
    piece: usize,
) -> Result<Table> {
    let following = Arc::new(Mutex::new(Following { shown, held: None, mode, table: Table::default() }));
    feed(model, Box::new(Follower(Arc::clone(&following))), ids, piece)?;
    let mut following = following.lock().unwrap_or_else(PoisonError::into_inner);
    following.take_the_rest();
    Ok(std::mem::take(&mut following.table))
}

impl Following {
    /// The original's output at `tap`; what it has before that, this model lacks.
    fn counterpart(&mut self, tap: Tap) -> Result<Option<Arc<Shown>>> {
        loop {
            let shown = match self.held.take() {
                Some(held) => held,
                None => self.shown.recv().map_err(|_| left_alone())?,
            };
            if shown.tap.order() == tap.order() {
                return Ok(Some(shown));
            }
            if shown.tap.order() > tap.order() {
                self.held = Some(shown);
                return Ok(None);
            }
            self.unmatched(shown.tap, ONLY_THERE);
        }
    }

    /// A model of fewer layers is through while the original is not; what still comes is taken, lest the original,
    /// and with it everybody else, be ended.
    fn take_the_rest(&mut self) {
        while let Some(shown) = self.held.take().or_else(|| self.shown.recv().ok()) {
            self.unmatched(shown.tap, ONLY_THERE);
        }
    }

    fn unmatched(&mut self, tap: Tap, what: &str) {
        let (_, place) = tap.order();
        self.table.unmatched.insert(place, what.to_owned());
    }
}

const ONLY_THERE: &str = "only the original has it";

impl Observer for Follower {
    fn wants(&self, _: Op) -> bool {
        true
    }

    fn see(&mut self, tap: Tap, values: Vec<f32>) -> Result<Option<Arc<Vec<f32>>>> {
        // A poisoned lock would belong to this very thread.
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shown) = own.counterpart(tap)? else {
            own.unmatched(tap, "only the other has it");
            return Ok(None);
        };
        let widths = (shown.values.len() / shown.tap.n.max(1), values.len() / tap.n.max(1));
        let same = widths.0 == widths.1;
        // A vocabulary may be padded: what both have is compared.
        if !same && tap.op != Op::Logits {
            own.unmatched(tap, &format!("{} wide in the original, {} here", widths.0, widths.1));
            return Ok(None);
        }
        let common = widths.0.min(widths.1);
        if common > 0 {
            let (_, place) = tap.order();
            own.table.places.entry(place).or_default().add(&shown.values, &values, widths, common);
        }
        let forced = own.mode == Mode::Forced && same;
        Ok(forced.then(|| Arc::clone(&shown.values)))
    }
}

/// Runs the model under an observer.
fn feed(model: &LoadedModel, observer: Box<dyn Observer>, ids: &[u32], piece: usize) -> Result<()> {
    let mut session = model.session();
    session.observe(observer);
    for piece in ids.chunks(piece) {
        session.logits_all(piece)?;
    }
    Ok(())
}

/// Runs `work`; a panic becomes an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic leaves half-done (a session, a table) is dropped and never looked at.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let what = text.unwrap_or_else(|| "a panic without a message".to_owned());
        Err(Error::new(Kind::Internal, "lockstep", what))
    })
}

/// What ended one walk because another had ended.
fn left_alone() -> Error {
    Error::new(Kind::Internal, "lockstep", "the other walk ended")
}

/// Everybody's table, or the first error that is no consequence of another.
pub(super) fn root_cause(own: Result<()>, others: Vec<Result<Table>>) -> Result<Vec<Table>> {
    let (mut tables, mut errors) = (Vec::new(), Vec::from_iter(own.err()));
    for outcome in others {
        match outcome {
            Ok(table) => tables.push(table),
            Err(error) => errors.push(error),
        }
    }
    let at = errors.iter().position(|e| *e != left_alone()).unwrap_or(0);
    if errors.is_empty() { Ok(tables) } else { Err(errors.swap_remove(at)) }
}
