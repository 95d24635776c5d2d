//! Conversion: a pure [`plan`] of what becomes of every tensor, then a writer that streams it.
//!
//! HF folder, APR and GGUF are each a view of one canonical form (`models`): linear weights `[out, in]`, rows
//! of q and k as halves, q, k and v apart, a tied head stored once. Without `--quantize` no value changes; a
//! step that cannot be exact was asked for, or is refused until `allow_lossy` says otherwise.

mod apr;
mod encode;
mod gguf;
mod hf;
mod metadata;
mod options;
mod place;
mod plan;
mod recipe;
mod report;
mod rule;

pub use options::{ConvertOptions, NameDialect};
pub use plan::{Operation, Plan, Step};
pub use report::{ConvertReport, Exactness, TensorReport};

use crate::formats::{Checkpoint, FormatKind, TensorSource, open};
use crate::models::{Bound, bind_sound, scan};
use crate::tokenizer::TokenizerSpec;
use crate::{Error, Kind, Result};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;

/// Converts the model at `src` into a new file or folder at `dst`. The container is `options.to`, or what
/// the name of `dst` says: `.apr`, `.gguf`, no extension for an HF folder. `dst` appears whole or not at all.
///
/// # Errors
/// Those of opening `src`; [`Kind::NonFinite`] naming tensor and index; [`Kind::Lossy`] for a step that
/// cannot be exact and was not asked for; [`Kind::Usage`] for a `dst` that must not be written; [`Kind::Io`].
pub fn convert(src: &Path, dst: &Path, options: &ConvertOptions) -> Result<ConvertReport> {
    let kind = options.to.map_or_else(|| place::kind_of_name(dst), Ok)?;
    let checkpoint = open(src)?;
    place::check(&checkpoint, dst, kind)?;
    let bound = bind_sound(&checkpoint)?;
    refuse_non_finite(&checkpoint)?;
    let mut warnings = Vec::new();
    let tokenizer = tokenizer_of(&checkpoint, &bound, &mut warnings)?;
    let plan = plan::plan_bound(&bound, kind, options)?;
    let threads =
        options.threads.or_else(|| std::thread::available_parallelism().ok().map(NonZeroUsize::get));
    let threads = threads.unwrap_or(1).max(1);
    warnings.extend(plan.notes.iter().cloned());

    let outcomes: Vec<Mutex<Option<encode::Outcome>>> = plan.steps.iter().map(|_| Mutex::new(None)).collect();
    let mut sources: Vec<TensorSource> = plan
        .steps
        .iter()
        .zip(&outcomes)
        .map(|(step, outcome)| encode::source(step, &bound, outcome, encode::How { options, threads }))
        .collect();
    if kind == FormatKind::Gguf {
        sources.extend(gguf::settings(&bound));
    }
    let about = metadata::About {
        checkpoint: &checkpoint,
        bound: &bound,
        plan: &plan,
        tokenizer: tokenizer.as_ref(),
        options,
    };
    match kind {
        FormatKind::Apr => apr::write(dst, &about, &sources, options.dialect)?,
        FormatKind::Gguf => gguf::write(dst, &about, &sources)?,
        FormatKind::HfFolder => hf::write(dst, &about, &sources)?,
    }
    drop(sources);
    report::report(&checkpoint, &bound, dst, kind, &plan, outcomes, warnings)
}

/// The steps that [`convert`] would take; nothing is read but names, shapes and encodings.
///
/// # Errors
/// Those of [`convert`] that do not depend on values or on the destination.
pub fn plan(checkpoint: &Checkpoint, to: FormatKind, options: &ConvertOptions) -> Result<Plan> {
    plan::plan_bound(&bind_sound(checkpoint)?, to, options)
}

/// A weight that is no number stays one in every encoding, so it is refused before anything is written.
fn refuse_non_finite(checkpoint: &Checkpoint) -> Result<()> {
    for stored in checkpoint.tensors() {
        // Masks and other stored tensors that are no weights may be integers.
        if !stored.tensor.dtype.is_plain_float() && !stored.tensor.dtype.is_quantized() {
            continue;
        }
        if let Some((index, value)) = scan(&stored.tensor)?.non_finite {
            let what = format!("the weight is {value}");
            let error = Error::new(Kind::NonFinite, checkpoint.path.display().to_string(), what);
            return Err(error.at(format!("tensor `{}`[{index}]", stored.name)));
        }
    }
    Ok(())
}

/// The tokenizer, if the source has one at all. One that is there and cannot be read is an error: it would be
/// lost in silence.
fn tokenizer_of(
    checkpoint: &Checkpoint,
    bound: &Bound,
    warnings: &mut Vec<String>,
) -> Result<Option<TokenizerSpec>> {
    if !metadata::has_tokenizer(checkpoint) {
        warnings.push("the source has no tokenizer, so neither has the result".to_owned());
        return Ok(None);
    }
    let spec = TokenizerSpec::from_checkpoint(checkpoint)?;
    let rows = bound.config.vocab_size;
    if spec.tokens.len() > rows {
        let what = format!("the tokenizer has {} tokens, the embedding only {rows} rows", spec.tokens.len());
        return Err(Error::new(Kind::Contract, checkpoint.path.display().to_string(), what));
    }
    Ok(Some(spec))
}

#[cfg(test)]
mod tests;
