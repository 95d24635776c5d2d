//! Where two artifacts part: both are walked in lockstep, what is found is explained, and the explanations are ranked
//! by how well they are tested.

mod charts;
mod rank;
mod tokens;

use super::loaded::Opened;
use crate::contract::Contract;
use crate::infer::LoadedModel;
use crate::infer::lockstep::{self, MARGIN_DB, TapError, Walk, Walkers};
use crate::inspect::cause::Cause;
use crate::inspect::cause::symptoms::{Symptom, symptom};
use crate::quant;
use crate::record::{Chart, Finding};
use crate::tensor::DType;
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::time::Instant;

pub use charts::worst;
pub use rank::number_db;

/// Sentences, digits, code, accents: what most models have seen, some sixty tokens of it.
pub const SAMPLE: &str = "The capital of France is Paris, and 12 * 34 = 408. In 1969 people first walked on the moon.\n\
    def add(a, b):\n    return a + b  # naïve café\n\"Why not?\" she said; nobody knew the answer.";

/// So many tokens tell where it is, and cost a fraction of a second.
pub const TOKENS: usize = 64;

/// A file that an importance matrix shaped gives up some signal in the columns that matter less: SmolLM2 by
/// llama-quantize in q4_k_m is up to 2.98 dB below its plain twin in one operation of 453, in q2_k nowhere.
const IMATRIX_MARGIN_DB: f64 = 4.0;

/// What to walk through.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Encoded by the reference.
    pub text: &'a str,
    /// At most so many tokens of it.
    pub tokens: usize,
    /// Given up at that time.
    pub until: Option<Instant>,
}

/// Where two artifacts part, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Localisation {
    /// Every operation.
    pub walk: Walk,
    /// `first over budget: blk.7 ffn_down, SQNR 11.2 dB, expected 19.8 dB; looks like rows in another order`.
    pub headline: String,
    /// What to fix, most likely first.
    pub causes: Vec<Cause>,
    /// How the error looks from outside.
    pub symptom: Symptom,
    /// The operation or tensor at fault; none where every operation is within its bound.
    pub finding: Option<Finding>,
    /// Own and expected error by layer, cumulative error by layer and by position.
    pub charts: Vec<Chart>,
    /// What limits the statement: models that differ in shape, no twin.
    pub notes: Vec<String>,
}

/// Walks `candidate` beside `reference` and explains the first operation that is worse than its encoding makes it.
///
/// # Errors
/// Those of opening and loading either; [`Kind::Usage`] where the text has no token or a side has no backend.
pub fn localise(candidate: &Opened, reference: &Opened, request: &Request) -> Result<Localisation> {
    let mut ids = reference.files().tokenizer()?.encode(request.text, true)?;
    ids.truncate(request.tokens);
    let (original, found) = (loaded(reference)?, loaded(candidate)?);
    in_time(request)?;

    let mut notes = Vec::new();
    let (twin, floors) = expectation(candidate, reference, &mut notes)?;
    in_time(request)?;
    let shaped = candidate.files().importance()?.is_some();
    let floor = |name: &str| floors.get(name).copied();
    let mut walk = lockstep::walk(
        &Walkers {
            original: &original,
            candidate: &found,
            twin: twin.as_ref(),
            floor: &floor,
            margin_db: if shaped { IMATRIX_MARGIN_DB } else { MARGIN_DB },
            until: request.until,
        },
        &ids,
    )?;
    notes.append(&mut walk.notes);
    let symptom = symptom(&walk);
    let causes = rank::rank(candidate, reference, &walk, symptom)?;
    let charts = charts::charts(&walk);
    let headline = headline(&walk, &causes);
    let finding = walk.first().map(|tap| Finding {
        subject: tap.tensor.clone().unwrap_or_else(|| tap.name()),
        detail: headline.clone(),
        cause: causes.first().map(|cause| cause.id.to_owned()),
    });
    Ok(Localisation { walk, headline, causes, symptom, finding, charts, notes })
}

fn loaded(side: &Opened) -> Result<LoadedModel> {
    match side.engine() {
        Some(running) => running.model(),
        None => Err(Error::new(Kind::Usage, side.name().to_owned(), "it runs on no backend here")),
    }
}

fn in_time(request: &Request) -> Result<()> {
    match request.until {
        Some(until) if Instant::now() >= until => {
            Err(Error::new(Kind::Environment, "lockstep", "the time for the walk is over"))
        }
        Some(_) | None => Ok(()),
    }
}

/// What a correct conversion gives: the twin; and for weights in encodings that are only read here, what the contract
/// says that they keep.
fn expectation(
    candidate: &Opened,
    reference: &Opened,
    notes: &mut Vec<String>,
) -> Result<(Option<LoadedModel>, BTreeMap<String, f64>)> {
    let dtypes = |side: &Opened| -> Result<BTreeMap<String, DType>> {
        let weights = side.files().weights()?;
        Ok(weights.tensors.iter().map(|t| (t.name().to_owned(), t.dtype())).collect())
    };
    let (kept, mut types) = (dtypes(reference)?, dtypes(candidate)?);
    types.retain(|name, dtype| kept.get(name).is_some_and(|before| before != dtype));
    let mut floors = BTreeMap::new();
    let (can, cannot): (BTreeMap<_, _>, BTreeMap<_, _>) =
        types.into_iter().partition(|(_, dtype)| quant::encodes(*dtype));
    for (name, dtype) in cannot {
        // An encoding without a law is not judged by its own error.
        let law = Contract::builtin().encoding(dtype).and_then(|law| law.sqnr_floor_db);
        floors.insert(name, law.unwrap_or(f64::NEG_INFINITY));
    }
    if !floors.is_empty() {
        notes.push(format!(
            "{} weights are in encodings that are only read here: expected is what the contract says they keep",
            floors.len()
        ));
    }
    if can.is_empty() {
        return Ok((None, floors));
    }
    match reference.twin(&can).and_then(|twin| loaded(&twin)) {
        Ok(twin) => Ok((Some(twin), floors)),
        Err(error) => {
            notes.push(format!("no twin could be made of {}: {error}", candidate.name()));
            for (name, dtype) in can {
                let law = Contract::builtin().encoding(dtype).and_then(|law| law.sqnr_floor_db);
                floors.extend(law.map(|db| (name, db)));
            }
            Ok((None, floors))
        }
    }
}

fn headline(walk: &Walk, causes: &[Cause]) -> String {
    let like = match causes.first() {
        Some(cause) => format!("; looks like: {}", cause.sentence),
        None => String::new(),
    };
    let say = |tap: &TapError| {
        format!("{}, SQNR {}, expected {}", tap.name(), number_db(tap.local_db), number_db(tap.expected_db))
    };
    match walk.first() {
        Some(tap) => format!("first over budget: {}{like}", say(tap)),
        None => {
            let n = walk.taps.len();
            format!("no operation over budget: {n} over {} tokens{like}", walk.tokens)
        }
    }
}
