//! Another tensor of the model in this one's place: projections that changed places, layers shifted or doubled.

use super::{Cause, EXPLAINED_DB, Test};
use crate::stats::Noise;

/// Parts of a layer that may have one shape.
const PARTS: [&str; 11] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "attn_norm",
    "ffn_norm",
    "post_attn_norm",
    "post_ffn_norm",
];

/// No model has more layers than this.
const MOST_LAYERS: usize = 512;

/// The original's tensor that this one is.
pub(super) fn other_tensor(test: &Test) -> Option<Cause> {
    let name = test.suspect.name;
    if let Some(other) = ["token_embd.weight", "output.weight"].into_iter().find(|other| *other != name)
        && (name == "output.weight" || name == "token_embd.weight")
        && let Some(score) = is_now(test, other)
    {
        let sentence = format!("it is the original's `{other}`: the tie of head and embedding is broken");
        return Some(Cause { id: "tied-head", sentence, score });
    }
    let (layer, rest) = name.split_once('.')?;
    let (layer, (part, kind)) = (layer.parse::<usize>().ok()?, rest.rsplit_once('.')?);
    for other in PARTS.into_iter().filter(|other| *other != part) {
        let there = format!("{layer}.{other}.{kind}");
        if let Some(score) = is_now(test, &there) {
            let sentence = match went(test, &there, name) {
                true => format!("`{name}` and `{there}` changed places"),
                false => format!("it is the original's `{there}`"),
            };
            return Some(Cause { id: "swapped-tensors", sentence, score });
        }
    }
    // The nearest layers first: most converters that miscount are off by one.
    let mut gone = [false; 2];
    for distance in 1..MOST_LAYERS {
        for (side, other) in
            [layer.checked_sub(distance), layer.checked_add(distance)].into_iter().enumerate()
        {
            let Some(other) = other.filter(|_| !gone[side]) else { continue };
            let there = format!("{other}.{rest}");
            let Some(values) = (test.suspect.originals)(&there) else {
                gone[side] = true;
                continue;
            };
            let Some(score) = test.explains(&values, test.suspect.found) else { continue };
            drop(values);
            return Some(of_another_layer(test, (layer, other), &there, score));
        }
        if gone == [true; 2] || (distance > layer && gone[1]) {
            break;
        }
    }
    None
}

fn of_another_layer(test: &Test, (layer, other): (usize, usize), there: &str, score: f64) -> Cause {
    let name = test.suspect.name;
    let (id, sentence) = if went(test, there, name) {
        ("swapped-tensors", format!("`{name}` and `{there}` changed places"))
    } else if went(test, there, there) {
        (
            "duplicated-layer",
            format!(
                "it is the original's `{there}`, which is in its own place too: layer {other} is there twice"
            ),
        )
    } else {
        (
            "shifted-layer",
            format!("it is the original's `{there}`: layer {layer} holds what belongs to layer {other}"),
        )
    };
    Cause { id, sentence, score }
}

/// How well the original's tensor `other` explains what was found.
fn is_now(test: &Test, other: &str) -> Option<f64> {
    test.explains(&(test.suspect.originals)(other)?, test.suspect.found)
}

/// Whether the candidate's tensor `at` is the original's `of`.
fn went(test: &Test, at: &str, of: &str) -> bool {
    let original = match of == test.suspect.name {
        true => Some(test.suspect.original.to_vec()),
        false => (test.suspect.originals)(of),
    };
    let noise = original.zip((test.suspect.candidates)(at)).and_then(|(a, b)| Noise::between(&a, &b));
    noise.is_some_and(|noise| noise.sqnr_db() >= EXPLAINED_DB)
}
