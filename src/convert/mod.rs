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
mod random;
mod recipe;
mod report;
mod rule;
mod threads;
mod twin;

pub use options::{ConvertOptions, NameDialect};
pub use plan::{Operation, Plan, Step};
pub use random::{RANDOM_MODELS, RandomModel, random, write_random};
pub use report::{ConvertReport, Exactness, TensorReport};
pub use twin::{encodings, twin};

use crate::engine;
use crate::formats::{AprDialect, AprLayout, Checkpoint, FormatKind, NamedTensor, TensorSource, open};
use crate::models::{Bound, bind_sound, scan};
use crate::tokenizer::TokenizerSpec;
use crate::{Error, Kind, Result};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use threads::{earliest, on_threads};

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
    refuse_layout(dst, kind, options)?;
    let bound = bind_sound(&checkpoint)?;
    let threads = options.threads.unwrap_or_else(engine::usable_cpus);
    let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    refuse_non_finite(&checkpoint, threads.get())?;
    let mut warnings = Vec::new();
    let tokenizer = tokenizer_of(&checkpoint, &bound, &mut warnings)?;
    let plan = plan::plan_bound(&bound, kind, options)?;
    warnings.extend(plan.notes.iter().cloned());

    let outcomes: Vec<Mutex<Option<encode::Outcome>>> = plan.steps.iter().map(|_| Mutex::new(None)).collect();
    let mut sources: Vec<TensorSource> = plan
        .steps
        .iter()
        .zip(&outcomes)
        .map(|(step, outcome)| {
            encode::source(step, &bound, outcome, encode::How { options, threads: threads.get() })
        })
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
        FormatKind::Apr => apr::write(dst, &about, &sources, threads)?,
        FormatKind::Gguf => gguf::write(dst, &about, &sources)?,
        FormatKind::HfFolder => hf::write(dst, &about, &sources)?,
    }
    drop(sources);
    report::report(&about, dst, kind, outcomes, warnings)
}

/// The steps that [`convert`] would take; nothing is read but names, shapes and encodings.
///
/// # Errors
/// Those of [`convert`] that do not depend on values or on the destination.
pub fn plan(checkpoint: &Checkpoint, to: FormatKind, options: &ConvertOptions) -> Result<Plan> {
    plan::plan_bound(&bind_sound(checkpoint)?, to, options)
}

/// Row tiles have bytes in our own APR files only.
fn refuse_layout(dst: &Path, kind: FormatKind, options: &ConvertOptions) -> Result<()> {
    let ours = kind == FormatKind::Apr && options.dialect == AprDialect::Contract;
    match options.layout {
        AprLayout::Tiled if !ours => {
            let what =
                "row tiles are a layout of APR files in the contract's dialect, and this is to be none";
            let error = Error::new(Kind::Usage, dst.display().to_string(), what);
            Err(error.hint("leave the layout plain, or write such an APR file"))
        }
        AprLayout::Tiled | AprLayout::Plain => Ok(()),
    }
}

/// A weight that is no number stays one in every encoding, so it is refused before anything is written. Threads
/// share the tensors; the first fault in stored order is told.
fn refuse_non_finite(checkpoint: &Checkpoint, threads: usize) -> Result<()> {
    // Masks and other stored tensors that are no weights may be integers.
    let is_weight = |t: &&NamedTensor| t.tensor.dtype.is_plain_float() || t.tensor.dtype.is_quantized();
    let tensors: Vec<&NamedTensor> = checkpoint.tensors().iter().filter(is_weight).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut faults = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(stored) = tensors.get(i) else { return faults };
            let fault = match scan(&stored.tensor) {
                Err(error) => error,
                Ok(found) => match found.non_finite {
                    None => continue,
                    Some((index, value)) => {
                        let what = format!("the weight is {value}");
                        let error = Error::new(Kind::NonFinite, checkpoint.path.display().to_string(), what);
                        error.at(format!("tensor `{}`[{index}]", stored.name))
                    }
                },
            };
            faults.push((i, fault));
        }
    };
    earliest(on_threads(threads, work).into_iter().flatten())
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
