//! Two models, the same tokens, operation by operation: the first operation that goes wrong is named.
//!
//! Every operation has two errors. The **local** one is its own: it is fed with what the original fed it with. The
//! **cumulative** one is what has come together by then. A thread computes the original and hands every output to
//! the threads of the others before it goes on, so that no more is held at any time than the outputs in hand.

mod follow;
mod sums;

use super::LoadedModel;
use crate::engine::{Op, Place};
use crate::{Error, Kind, Result};
use follow::{Lead, Mode, follow, guarded, root_cause};
use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;
use sums::Sums;

/// Above so many dB two results are the same number computed in f32: 24 bits are 144 dB, and sums of a few thousand
/// products lose some twenty of them.
pub const EXACT_DB: f64 = 120.0;

/// The same between two backends, whose sums run in another order and whose exponentials are others.
pub const OTHER_BACKEND_DB: f64 = 90.0;

/// An operation may be so much worse than expected. The twin rounds the same weights to the same encoding; another
/// sound rounding of them (round half away or to even, a search for scales that ends elsewhere) moves the error of
/// one operation by a few tenths of a dB, where 64 tokens and 64 columns are all there is to average over.
pub const MARGIN_DB: f64 = 1.0;

/// At most so many tokens at once: outputs of a piece are compared before the next is computed.
const PIECE: usize = 128;

/// What walks beside the original.
pub struct Walkers<'a> {
    /// Judges the others.
    pub original: &'a LoadedModel,
    /// Is judged.
    pub candidate: &'a LoadedModel,
    /// What a correct conversion to the candidate's encodings gives, where it could be made.
    pub twin: Option<&'a LoadedModel>,
    /// For weights that no twin vouches for, by canonical name: the lowest signal-to-noise ratio in dB that the
    /// candidate's encoding leaves. `None`: the twin's, and without one nothing may move.
    pub floor: &'a dyn Fn(&str) -> Option<f64>,
    /// How much worse than expected an operation may be, in dB: [`MARGIN_DB`] for the same rounding.
    pub margin_db: f64,
    /// The walk is given up at that time.
    pub until: Option<Instant>,
}

/// One operation of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct TapError {
    /// Where.
    pub place: Place,
    /// The canonical weight that it computes with, where it is one: `7.down_proj.weight`.
    pub tensor: Option<String>,
    /// Signal-to-noise ratio of the candidate's operation on the original's inputs, mean over positions.
    pub local_db: f64,
    /// The same of what has come together by then.
    pub cumulative_db: f64,
    /// Cosine of the candidate's output and the original's, all positions in one, cumulative.
    pub cosine: f64,
    /// What `local_db` is with a correct conversion.
    pub expected_db: f64,
    /// What `cumulative_db` is with a correct conversion; none without a twin.
    pub expected_cumulative_db: Option<f64>,
    /// `local_db` must not be below this.
    pub bound_db: f64,
    /// `cumulative_db` of every position.
    pub by_position: Vec<f64>,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    /// In the order of a forward pass.
    pub taps: Vec<TapError>,
    /// The first whose own error exceeds its bound.
    pub first_over: Option<usize>,
    /// How many tokens were walked.
    pub tokens: usize,
    /// What could not be compared, in sentences.
    pub notes: Vec<String>,
}

impl TapError {
    /// Whether its own error exceeds its bound; a NaN does.
    pub fn is_over(&self) -> bool {
        self.local_db.is_nan() || self.local_db < self.bound_db
    }

    /// `blk.7 ffn_down`.
    pub fn name(&self) -> String {
        match self.place.layer {
            Some(layer) => format!("blk.{layer} {}", self.place.op.name()),
            None => self.place.op.name().to_owned(),
        }
    }
}

impl Walk {
    /// The first operation over its bound.
    pub fn first(&self) -> Option<&TapError> {
        self.first_over.and_then(|i| self.taps.get(i))
    }
}

/// Walks through `ids`. Tokens that one of the models lacks, and those beyond the shorter context, are left out.
///
/// # Errors
/// [`Kind::Usage`] where no token is left; [`Kind::Contract`] where the models have no output in common; and what a
/// forward pass ends with.
pub fn walk(walkers: &Walkers, ids: &[u32]) -> Result<Walk> {
    let (original, candidate) = (walkers.original, walkers.candidate);
    let mut notes = Vec::new();
    let ids = common_ids(original, candidate, ids, &mut notes)?;
    // Local and cumulative errors of the candidate, then of the twin.
    let parties: Vec<(&LoadedModel, Mode)> = [Some(candidate), walkers.twin]
        .into_iter()
        .flatten()
        .flat_map(|model| [(model, Mode::Forced), (model, Mode::Free)])
        .collect();
    let tables = together(original, &parties, &ids, walkers.until)?;
    let [forced, free, twins @ ..] = &tables[..] else {
        return Err(Error::new(Kind::Internal, "lockstep", "a walk gave no result"));
    };
    let (twin_forced, twin_free) = (twins.first(), twins.get(1));
    tell_unmatched(original, free, &mut notes);
    let tied = original.config().tied_embeddings;
    let same_backend = original.backend_name() == candidate.backend_name();
    let exact = if same_backend { EXACT_DB } else { OTHER_BACKEND_DB };
    let taps: Vec<TapError> = free
        .places
        .iter()
        .map(|(place, sums)| {
            let tensor = tensor_of(*place, tied);
            let expected = |table: Option<&Table>| table.and_then(|t| t.places.get(place)).map(Sums::db);
            let local_db = forced.places.get(place).map_or(f64::NAN, Sums::db);
            let expected_db =
                expected(twin_forced).unwrap_or_else(|| floor(walkers, *place, tensor.as_deref()));
            TapError {
                place: *place,
                tensor,
                local_db,
                cumulative_db: sums.db(),
                cosine: sums.cosine(),
                expected_db,
                expected_cumulative_db: expected(twin_free),
                bound_db: expected_db.min(exact) - walkers.margin_db,
                by_position: sums.by_position(),
            }
        })
        .collect();
    if taps.is_empty() {
        let what = "the models have no operation of the same width in common";
        return Err(Error::new(Kind::Contract, "lockstep", what).hint("are they conversions of one model?"));
    }
    let first_over = taps.iter().position(TapError::is_over);
    Ok(Walk { taps, first_over, tokens: ids.len(), notes })
}

/// What one follower saw.
#[derive(Default)]
struct Table {
    places: BTreeMap<Place, Sums>,
    /// Places that only one of the two has, or that differ in width.
    unmatched: BTreeMap<Place, String>,
}

/// Computes the original and everybody beside it. One that ends early ends the others, and its reason is told.
fn together(
    original: &LoadedModel,
    parties: &[(&LoadedModel, Mode)],
    ids: &[u32],
    until: Option<Instant>,
) -> Result<Vec<Table>> {
    thread::scope(|scope| {
        let (mut channels, mut handles) = (Vec::new(), Vec::new());
        for (model, mode) in parties {
            // A rendezvous: the original waits until everybody has taken its output.
            let (sender, receiver) = sync_channel(0);
            channels.push(sender);
            handles.push(scope.spawn(move || guarded(|| follow(model, receiver, *mode, ids, PIECE))));
        }
        let own = guarded(|| Lead::new(channels, until).run(original, ids, PIECE));
        let gone = |_| Err(Error::new(Kind::Internal, "lockstep", "a thread vanished"));
        let others = handles.into_iter().map(|handle| handle.join().unwrap_or_else(gone)).collect();
        root_cause(own, others)
    })
}

/// The tokens that both models can be fed.
fn common_ids(a: &LoadedModel, b: &LoadedModel, ids: &[u32], notes: &mut Vec<String>) -> Result<Vec<u32>> {
    let (x, y) = (a.config(), b.config());
    let known = x.vocab_size.min(y.vocab_size);
    let longest = x.max_positions.min(y.max_positions);
    let mut common: Vec<u32> = ids.iter().copied().filter(|id| (*id as usize) < known).collect();
    if common.len() < ids.len() {
        notes.push(format!("{} tokens that one vocabulary lacks were left out", ids.len() - common.len()));
    }
    if common.len() > longest {
        notes.push(format!("only {longest} tokens were walked: the shorter context holds no more"));
        common.truncate(longest);
    }
    if common.is_empty() {
        return Err(Error::new(Kind::Usage, "text", "there are no tokens to walk through")
            .hint("give a text of a few words"));
    }
    Ok(common)
}

/// Says what only one of the two has.
fn tell_unmatched(original: &LoadedModel, free: &Table, notes: &mut Vec<String>) {
    let mut layers: Vec<usize> = Vec::new();
    for (place, what) in &free.unmatched {
        match place.layer {
            Some(layer) if layers.contains(&layer) => {}
            layer => {
                layers.extend(layer);
                let at = layer.map_or(String::new(), |l| format!("blk.{l} "));
                notes.push(format!("{at}{}: {what}", place.op.name()));
            }
        }
    }
    // One sentence for each layer is enough up to a handful.
    const MOST: usize = 6;
    let n = notes.len();
    if n > MOST {
        notes.truncate(MOST);
        notes.push(format!("and {} more; the original has {} layers", n - MOST, original.config().n_layers));
    }
}

fn tensor_of(place: Place, tied: bool) -> Option<String> {
    let part = match place.op {
        Op::Logits if tied => "token_embd",
        op => op.part()?,
    };
    Some(match place.layer {
        Some(layer) => format!("{layer}.{part}.weight"),
        None => format!("{part}.weight"),
    })
}

/// What an operation leaves of the signal where no twin says: as much as the encoding of its weights.
fn floor(walkers: &Walkers, place: Place, tensor: Option<&str>) -> f64 {
    let of = |name: &str| (walkers.floor)(name).unwrap_or(f64::INFINITY);
    match (place.op, place.layer) {
        // Two rounded factors: their errors add up.
        (Op::Activated, Some(layer)) => {
            of(&format!("{layer}.gate_proj.weight")).min(of(&format!("{layer}.up_proj.weight")))
                - TWO_FACTORS_DB
        }
        _ => tensor.map_or(f64::INFINITY, of),
    }
}

/// Twice the noise, and as much again where the slope of the activation exceeds 1.
const TWO_FACTORS_DB: f64 = 4.0;

#[cfg(test)]
mod tests;
