//! Planted defects: a catalogue of what converters get wrong, each put into a sound artifact by seed.
//!
//! A defect changes one thing and leaves everything around it valid, checksums included, so that what notices it is the
//! check that is meant. It says what a gate must name: a tensor, a layer, a setting. A change that would change nothing
//! is never planted.

mod blocks;
mod catalogue;
mod container;
mod draft;
mod edit;
mod head;
mod layers;
mod norms;
mod rows;
mod settings;
mod tokenizer;
mod values;

pub use catalogue::DEFECTS;

use crate::formats::open;
use crate::models;
use crate::playbook::Ground;
use crate::stats::Dice;
use crate::tokenizer::TokenizerSpec;
use crate::{Error, Result};
use draft::Draft;
use serde::Serialize;
use std::path::Path;

/// Plants `defect` into a copy of the artifact at `source`, written to the new place `out`. The same seed plants the same
/// bytes.
///
/// # Errors
/// [`crate::Kind::Unsupported`] where nothing in this artifact can be broken so; those of opening `source`, which must be a
/// sound model of a known family; [`crate::Kind::Usage`] where `out` is there already; [`crate::Kind::Io`].
pub fn apply(defect: &Defect, source: &Path, out: &Path, seed: u64) -> Result<Planted> {
    if out.exists() {
        let what = "it is there already, and nothing is overwritten";
        return Err(Error::new(crate::Kind::Usage, out.display().to_string(), what));
    }
    let mut refused = None;
    for attempt in 0..ATTEMPTS {
        let mut draft = Draft::open(source)?;
        let mut dice = Dice::new(seed.wrapping_add(attempt << 48), defect.id);
        let done = match (defect.plant)(&mut draft, &mut dice) {
            Ok(Some(done)) if draft.differs() => done,
            Ok(Some(_) | None) => continue,
            Err(error) => {
                // An encoding that is only read, a value that it cannot hold: another place may do.
                refused = Some(error);
                continue;
            }
        };
        let before = said(&draft);
        let targets = with_stored_names(&draft, done.targets);
        draft.write(out)?;
        let hidden = matches!(defect.site, Site::Setting | Site::Tokenizer) && reads_alike(out, &before);
        if !hidden {
            return Ok(Planted { defect: defect.id, targets, what: done.what });
        }
        let removed = if out.is_dir() { std::fs::remove_dir_all(out) } else { std::fs::remove_file(out) };
        removed.map_err(|e| Error::io(out, &e))?;
    }
    let why = refused.map_or_else(|| "nothing in it can be broken so".to_owned(), |e| e.to_string());
    Err(Error::unsupported(source.display().to_string(), format!("`{}` does not apply: {why}", defect.id)))
}

/// How often another place is tried where the chosen one would not differ.
const ATTEMPTS: u64 = 12;

/// The defect of that id.
pub fn find(id: &str) -> Option<&'static Defect> {
    DEFECTS.iter().find(|defect| defect.id == id)
}

/// One kind of defect.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Defect {
    /// Kebab-case.
    pub id: &'static str,
    /// What it does and which real mistake it stands for, in one line.
    pub what: &'static str,
    /// What kind of mistake.
    pub class: Class,
    /// What a gate must name.
    pub site: Site,
    /// Ids of causes that a gate may rightly give.
    pub causes: &'static [&'static str],
    /// Whether it can be in such an artifact at all.
    #[serde(skip)]
    pub applies: fn(&Ground) -> bool,
    #[serde(skip)]
    plant: Plant,
}

/// Changes the draft and says what was done; `None` where there is nothing to change.
type Plant = fn(&mut Draft, &mut Dice) -> Result<Option<Done>>;

/// What kind of mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Rows of q and k in the wrong rotary order.
    Rope,
    /// Weights transposed, fused, split or named wrongly.
    Layout,
    /// Tensors and layers in each other's place.
    Order,
    /// Norm weights.
    Norms,
    /// Biases.
    Biases,
    /// Embedding and output head.
    Vocabulary,
    /// Values that changed.
    Values,
    /// The inside of quantised blocks.
    Blocks,
    /// Types, sizes, places, shards.
    Container,
    /// Hyperparameters.
    Settings,
    /// Tokenizer and chat template.
    Tokenizer,
}

impl Class {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Rope => "rope",
            Class::Layout => "layout",
            Class::Order => "order",
            Class::Norms => "norms",
            Class::Biases => "biases",
            Class::Vocabulary => "vocabulary",
            Class::Values => "values",
            Class::Blocks => "blocks",
            Class::Container => "container",
            Class::Settings => "settings",
            Class::Tokenizer => "tokenizer",
        }
    }
}

/// Where a defect sits, which is what a gate must name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// One tensor.
    Tensor,
    /// One or more layers.
    Layer,
    /// A hyperparameter.
    Setting,
    /// The tokenizer.
    Tokenizer,
    /// The file as a whole.
    File,
}

impl Site {
    /// Whether it sits in a tensor or a layer, which must then be named.
    pub const fn is_in_weights(self) -> bool {
        match self {
            Site::Tensor | Site::Layer => true,
            Site::Setting | Site::Tokenizer | Site::File => false,
        }
    }

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Site::Tensor => "tensor",
            Site::Layer => "layer",
            Site::Setting => "setting",
            Site::Tokenizer => "tokenizer",
            Site::File => "file",
        }
    }
}

/// A defect in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// Its id.
    pub defect: &'static str,
    /// Canonical tensors, `layer 3`, or settings that are at fault; naming one of them is right.
    pub targets: Vec<String>,
    /// What was done, in a sentence.
    pub what: String,
}

/// What a plant did.
struct Done {
    targets: Vec<String>,
    what: String,
}

impl Done {
    fn of(target: &str, what: impl Into<String>) -> Result<Option<Done>> {
        Ok(Some(Done { targets: vec![target.to_owned()], what: what.into() }))
    }

    fn of_many(
        targets: impl IntoIterator<Item = impl Into<String>>,
        what: impl Into<String>,
    ) -> Result<Option<Done>> {
        Ok(Some(Done { targets: targets.into_iter().map(Into::into).collect(), what: what.into() }))
    }
}

/// The targets, and after them the names under which the tensors among them are stored.
fn with_stored_names(draft: &Draft, mut targets: Vec<String>) -> Vec<String> {
    let stored: Vec<String> =
        targets.iter().filter_map(|name| draft.canonical(name)).map(|t| t.stored.clone()).collect();
    for name in stored {
        if !targets.contains(&name) {
            targets.push(name);
        }
    }
    targets
}

/// What an artifact says of itself beside its weights.
type Said = (Option<models::ModelConfig>, Option<TokenizerSpec>);

fn said(draft: &Draft) -> Said {
    (Some(draft.config().clone()), TokenizerSpec::from_checkpoint(draft.original()).ok().map(without_scores))
}

/// Whether the written artifact is read with the settings and the tokenizer that it had before.
fn reads_alike(path: &Path, before: &Said) -> bool {
    let Ok(checkpoint) = open(path) else { return false };
    let config = models::open(&checkpoint).ok().map(|model| model.config);
    let tokenizer = TokenizerSpec::from_checkpoint(&checkpoint).ok().map(without_scores);
    config == before.0 && tokenizer == before.1
}

/// An HF folder keeps the order of SentencePiece's scores and not the scores.
fn without_scores(mut spec: TokenizerSpec) -> TokenizerSpec {
    let mut order: Vec<usize> = (0..spec.tokens.len()).collect();
    order.sort_by(|a, b| spec.tokens[*b].score.total_cmp(&spec.tokens[*a].score));
    let mut last = None;
    let mut rank = 0.0;
    for id in order {
        let score = spec.tokens[id].score;
        if last.is_some_and(|l| l != score) {
            rank += 1.0;
        }
        last = Some(score);
        spec.tokens[id].score = rank;
    }
    spec
}

#[cfg(test)]
mod tests;
