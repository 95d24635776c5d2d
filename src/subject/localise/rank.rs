//! What to fix, most likely first: what a test on weights or settings confirms before what only looks like it.

use super::super::loaded::{Opened, hyperparameters};
use super::tokens;
use crate::Result;
use crate::infer::lockstep::{TapError, Walk};
use crate::inspect::View;
use crate::inspect::cause::settings::{acts_on, of_settings};
use crate::inspect::cause::symptoms::{Symptom, typical};
use crate::inspect::cause::{Cause, Heads, Suspect, causes};

/// So many tensors over their bounds are looked into.
const MOST_TENSORS: usize = 4;

/// The causes of what a walk found.
pub(super) fn rank(
    candidate: &Opened,
    reference: &Opened,
    walk: &Walk,
    symptom: Symptom,
) -> Result<Vec<Cause>> {
    let (theirs, ours) = (reference.files(), candidate.files());
    let (weights, found) = (theirs.weights()?, ours.weights()?);
    let (config, other) = (theirs.model()?.config.clone(), ours.model()?.config.clone());
    let mut ranked: Vec<Cause> = Vec::new();
    let first = walk.first();
    for cause in of_settings(&hyperparameters(&config), &hyperparameters(&other)) {
        // A setting explains an operation that uses it; beside another one it may be a second defect.
        let acts = first.is_some_and(|tap| acts_on(cause.id, tap.place.op.name()));
        let layers = matches!(cause.id, "dropped-layer" | "layer-count");
        let score = if acts || layers { cause.score } else { 0.4 * cause.score };
        ranked.push(Cause { score, ..cause });
    }
    let heads = Heads { queries: config.n_heads, keys: config.n_kv_heads, width: config.head_dim };
    let over = walk.taps.iter().filter(|tap| tap.is_over());
    for (i, tap) in over.filter(|tap| tap.tensor.is_some()).take(MOST_TENSORS).enumerate() {
        for mut cause in of_tensor(tap, heads, (&weights, &found)) {
            // The first in line is what the others may follow from.
            cause.score *= if i == 0 { 1.0 } else { 0.6 };
            let known = ranked.iter().any(|other| other.id == cause.id && other.score >= cause.score);
            if !known {
                ranked.push(cause);
            }
        }
    }
    let numbers = if first.is_some() { 0.3 } else { 1.0 };
    let tokenizers = (theirs.tokenizer(), ours.tokenizer());
    if let (Ok(a), Ok(b)) = tokenizers {
        ranked.extend(
            tokens::causes(a.spec(), b.spec()).into_iter().map(|c| Cause { score: numbers * c.score, ..c }),
        );
    }
    if ranked.iter().all(|cause| cause.score < 0.3) {
        ranked.extend(typical(symptom));
    }
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut ids = std::collections::BTreeSet::new();
    ranked.retain(|cause| ids.insert((cause.id, cause.sentence.clone())));
    Ok(ranked)
}

/// Why the weight or the bias of an operation is not what it was.
fn of_tensor(tap: &TapError, heads: Heads, (weights, found): (&View, &View)) -> Vec<Cause> {
    let Some(weight) = &tap.tensor else { return Vec::new() };
    let bias = weight.replace(".weight", ".bias");
    let mut all = Vec::new();
    for name in [weight, &bias] {
        let Some(original) = weights.get(name) else { continue };
        let Some(now) = found.get(name) else {
            let id = if name == &bias { "bias-dropped" } else { "missing-shard" };
            all.push(Cause { id, sentence: format!("`{name}` is not in the file"), score: 1.0 });
            continue;
        };
        let (Ok(a), Ok(b)) = (original.values(), now.values()) else { continue };
        let suspect = Suspect {
            name,
            shape: original.shape(),
            heads: Some(heads),
            original: &a,
            found: &b,
            dtype: now.dtype(),
            over: true,
            originals: &|n| weights.get(n)?.values().ok(),
            candidates: &|n| found.get(n)?.values().ok(),
        };
        all.extend(causes(&suspect).into_iter().map(|mut cause| {
            cause.sentence = format!("`{name}`: {}", cause.sentence);
            cause
        }));
    }
    all
}

/// dB as people read them.
pub fn number_db(db: f64) -> String {
    if db == f64::INFINITY { "exact".to_owned() } else { format!("{db:.1} dB") }
}
