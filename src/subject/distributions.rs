//! Distributions over a text as subjects answer them: taken, kept between runs, held against each other, and held
//! against themselves.

use super::artifact::Artifact;
use crate::engine;
use crate::infer::{
    EngineOptions, Feeding, LoadedModel, Passed, Scoring, chunks_of, diverge, diverge_and_keep, each_row,
    keep,
};
use crate::oracle::{ReferenceKey, StoredReference};
use crate::stats::Position;
use crate::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of which text, and how much is kept of a position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DistributionPlan {
    /// The text.
    pub text: Arc<str>,
    /// Tokens per chunk; a model with a shorter context gets chunks of that.
    pub ctx: usize,
    /// At most so many chunks; a shorter text has fewer.
    pub chunks: usize,
    /// Tokens kept exactly.
    pub top: usize,
    /// Tokens drawn from the rest.
    pub samples: usize,
    /// Of the draws.
    pub seed: u64,
    /// No chunk begins later than this after the first.
    pub budget: Option<Duration>,
}

/// Distributions and where they came from.
#[derive(Debug, Clone)]
pub struct KeptReference {
    /// The distributions.
    pub stored: StoredReference,
    /// Whether they were computed or read, and from which file.
    pub provenance: String,
}

/// What every scored position came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergences {
    /// `[chunks * per_chunk]`
    pub positions: Vec<Position>,
    /// Scored positions of a chunk.
    pub per_chunk: usize,
}

/// The reference against itself, computed in another way.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// What was changed: `3 threads`, `fed 3 tokens at a time`, `backend reference`.
    pub what: String,
    /// Positions compared.
    pub positions: u64,
    /// Mean magnitude of the divergence in nats.
    pub kl: f64,
    /// Share of positions with the same most probable token.
    pub same_top: f64,
}

/// A loaded model with all that taking distributions needs.
pub(super) struct Taking<'a> {
    pub artifact: &'a Artifact,
    pub model: &'a LoadedModel,
    pub options: &'a EngineOptions,
    /// Where distributions are kept between runs.
    pub folder: Option<&'a PathBuf>,
}

impl Taking<'_> {
    /// The distributions that `plan` asks for.
    pub fn take(&self, plan: &DistributionPlan, bos: Option<u32>) -> Result<KeptReference> {
        let config = self.model.config();
        let ctx = plan.ctx.min(config.max_positions);
        let ids = self.artifact.tokenizer()?.encode(&plan.text, true)?;
        let ids = chunks_of(&ids, ctx, plan.chunks, bos)?;
        let top = plan.top.clamp(1, config.vocab_size);
        let mut model = Sha256::new();
        model.update(self.artifact.identity(self.options.threads)?);
        model.update(self.options.backend.as_bytes());
        if let Some(device) = self.model.device() {
            // Another adapter, or another driver of it, rounds as it likes.
            model.update(device.adapter().to_string().as_bytes());
        }
        let mut text = Sha256::new();
        ids.iter().for_each(|id| text.update(id.to_le_bytes()));
        let key = ReferenceKey {
            model: model.finalize().into(),
            text: text.finalize().into(),
            ctx: ctx as u32,
            chunks: (ids.len() / ctx) as u32,
            vocab: config.vocab_size as u32,
            top: top as u32,
            // Nothing is left to draw from where everything is kept.
            samples: if top == config.vocab_size { 0 } else { plan.samples as u32 },
            seed: plan.seed,
        };
        let mut note = String::new();
        if let Some(folder) = self.folder {
            match StoredReference::read(folder, &key) {
                Ok(Some(stored)) => {
                    let provenance = format!("read from {}", folder.join(key.file_name()).display());
                    return Ok(KeptReference { stored, provenance });
                }
                Ok(None) => {}
                Err(error) => note = format!("; what was stored is not used: {error}"),
            }
        }
        let until = plan.budget.and_then(|budget| Instant::now().checked_add(budget));
        let threads = self.options.threads;
        let feeding = Feeding::default();
        let scoring =
            Scoring { ids: &ids, ctx, rows: usize::MAX, feeding, threads, until, from: None, into: None };
        let stored = keep(self.model, &scoring, key.clone())?;
        let mut provenance = format!("computed{note}");
        // What a budget cut short is not what the key of the whole names, and another run may have more time.
        if let Some(folder) = self.folder.filter(|_| stored.key == key) {
            provenance = match stored.write(folder) {
                Ok(path) => format!("computed and stored as {}{note}", path.display()),
                Err(error) => format!("computed; not stored: {error}{note}"),
            };
        }
        Ok(KeptReference { stored, provenance })
    }

    /// How the model differs from `reference`; what a perplexity can use again is left in `passed`.
    pub fn diverge(&self, reference: &StoredReference, passed: &Passed) -> Result<Divergences> {
        let positions = diverge_and_keep(self.model, reference, self.options.threads, passed)?;
        Ok(Divergences { positions, per_chunk: reference.key.per_chunk() })
    }

    /// The model against its own distributions: other threads, other pieces, other backends.
    pub fn self_test(&self, own: &StoredReference) -> Result<Vec<SelfTest>> {
        let split = Feeding { prefill: 37, piece: 3, together: 0 };
        let threads = if self.options.threads == 1 { 2 } else { 1 };
        let other = EngineOptions { threads, ..self.options.clone() };
        let model = self.artifact.model()?;
        let on_others = LoadedModel::load(&model, &other)?;
        let ctx = (own.key.ctx as usize).max(1);
        let chunks = (SELF_TEST_TEXT / ctx).clamp(1, SELF_TEST_CHUNKS).min(own.key.chunks as usize);
        let part = (chunks, SELF_TEST_ROWS);
        let mut tests = vec![
            summary(
                format!("{threads} thread{}", if threads == 1 { "" } else { "s" }),
                &diverge(&on_others, own, part, Feeding::default(), threads)?,
            ),
            summary(
                "fed 3 tokens at a time".to_owned(),
                &diverge(self.model, own, part, split, self.options.threads)?,
            ),
        ];
        let ids = own.ids.get(..SELF_TEST_TOKENS.min(own.key.ctx as usize)).unwrap_or_default();
        let parameters: usize = model.weights.values().map(|w| w.tensor.shape.numel()).sum();
        if parameters > SELF_TEST_LARGEST {
            return Ok(tests);
        }
        let here = self.rows(self.model, ids)?;
        let own = &*self.options.backend;
        // What the noise comes to does not depend on which adapters a machine has.
        let alike =
            |b: &&str| *b != own && engine::is_fast(b) == engine::is_fast(own) && !engine::needs_adapter(b);
        for backend in engine::backend_names().into_iter().filter(alike) {
            let options = EngineOptions { backend: backend.to_owned(), ..self.options.clone() };
            let there = self.rows(&LoadedModel::load(&model, &options)?, ids)?;
            let compared =
                here.iter().zip(&there).map(|((label, a), (_, b))| Position::between(a, b, *label));
            let positions: Option<Vec<Position>> = compared.collect();
            let positions = positions.ok_or_else(|| {
                Error::new(Kind::NonFinite, format!("backend `{backend}`"), "a logit of the self-test is NaN")
            })?;
            tests.push(summary(format!("backend {backend}"), &positions));
        }
        Ok(tests)
    }

    /// Labels and logits of the scored half of `ids` as one chunk.
    fn rows(&self, model: &LoadedModel, ids: &[u32]) -> Result<Vec<(u32, Vec<f32>)>> {
        let threads = self.options.threads;
        let (ctx, feeding) = (ids.len(), Feeding::default());
        let scoring =
            Scoring { ids, ctx, rows: usize::MAX, feeding, threads, until: None, from: None, into: None };
        each_row(model, &scoring, &|row| Ok((row.label, row.logits.to_vec())))
    }
}

/// Tokens whose chunks a self-test repeats: one of long ones, [`SELF_TEST_CHUNKS`] of short ones.
const SELF_TEST_TEXT: usize = 256;

/// Positions of a chunk that a self-test scores again. What is fed three tokens at a time takes as long as ten times the
/// text does otherwise.
const SELF_TEST_ROWS: usize = 64;

/// Chunks that a self-test repeats at most.
const SELF_TEST_CHUNKS: usize = 2;

/// Tokens that another backend repeats: the scalar one takes a second for as many of a model of 10^8 parameters.
const SELF_TEST_TOKENS: usize = 8;

/// Beyond so many parameters the scalar backend would take longer than everything else.
const SELF_TEST_LARGEST: usize = 1_000_000_000;

fn summary(what: String, positions: &[Position]) -> SelfTest {
    let n = positions.len().max(1) as f64;
    SelfTest {
        what,
        positions: positions.len() as u64,
        kl: positions.iter().map(|p| p.kl.abs()).sum::<f64>() / n,
        same_top: positions.iter().filter(|p| p.same_top()).count() as f64 / n,
    }
}
