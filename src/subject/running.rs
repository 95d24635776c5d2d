//! One artifact on one backend: loaded once, its generations, logits and perplexities kept for the cases that ask again.

use super::artifact::Artifact;
use super::{Figure, Generated, LogitRows, Speed};
use crate::Result;
use crate::infer::{EngineOptions, GenerateOptions, LoadedModel, Sampling, generate, perplexity};
use crate::tokenizer::Tokenizer;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// Bytes of logits that are kept: the paths of a few prompts over a vocabulary of 150,000.
const KEPT_LOGITS: usize = 256 << 20;

/// A loaded model with what it has already answered.
pub(super) struct Running {
    artifact: Arc<Artifact>,
    options: EngineOptions,
    model: OnceLock<Result<LoadedModel>>,
    /// By prompt and number of tokens.
    generations: Mutex<HashMap<(String, usize), Arc<Generated>>>,
    /// Oldest first; bounded by [`KEPT_LOGITS`].
    logits: Mutex<VecDeque<(Vec<u32>, Arc<LogitRows>)>>,
    /// By text and context.
    perplexities: Mutex<HashMap<(String, usize), Figure>>,
}

impl Running {
    /// `artifact` on the backend of `options`; nothing is loaded yet.
    pub fn new(artifact: Arc<Artifact>, options: EngineOptions) -> Running {
        Running {
            artifact,
            options,
            model: OnceLock::new(),
            generations: Mutex::default(),
            logits: Mutex::default(),
            perplexities: Mutex::default(),
        }
    }

    pub fn generate(&self, prompt: &str, tokens: usize) -> Result<Arc<Generated>> {
        let key = (prompt.to_owned(), tokens);
        if let Some(known) = lock(&self.generations).get(&key) {
            return Ok(Arc::clone(known));
        }
        let tokenizer = self.artifact.tokenizer()?;
        let prompt_ids = tokenizer.encode(prompt, true)?;
        let options = GenerateOptions {
            max_tokens: tokens,
            stop: tokenizer.stop_ids(),
            sampling: Sampling::Greedy,
            logprobs: 0,
        };
        let done = generate(&self.model()?, &prompt_ids, &options, &mut |_| ControlFlow::Continue(()))?;
        let text = tokenizer.decode(&done.tokens, true);
        let generated = Arc::new(Generated { prompt_ids, tokens: done.tokens, text });
        lock(&self.generations).insert(key, Arc::clone(&generated));
        Ok(generated)
    }

    /// A generation that is timed and not kept.
    pub fn speed(&self, prompt: &str, tokens: usize) -> Result<Speed> {
        let tokenizer = self.artifact.tokenizer()?;
        let prompt_ids = tokenizer.encode(prompt, true)?;
        let options = GenerateOptions {
            max_tokens: tokens,
            stop: tokenizer.stop_ids(),
            sampling: Sampling::Greedy,
            logprobs: 0,
        };
        let model = self.model()?;
        let start = Instant::now();
        let done = generate(&model, &prompt_ids, &options, &mut |_| ControlFlow::Continue(()))?;
        Ok(Speed { tokens: done.tokens.len() as u64, seconds: start.elapsed().as_secs_f64() })
    }

    pub fn logits(&self, ids: &[u32]) -> Result<Arc<LogitRows>> {
        if let Some((_, known)) = lock(&self.logits).iter().find(|(of, _)| of == ids) {
            return Ok(Arc::clone(known));
        }
        let model = self.model()?;
        let data = model.session().logits_all(ids)?;
        let rows = Arc::new(LogitRows { vocab: model.config().vocab_size, data });
        let mut kept = lock(&self.logits);
        kept.push_back((ids.to_vec(), Arc::clone(&rows)));
        while kept.len() > 1 && kept.iter().map(|(_, r)| r.data.len() * 4).sum::<usize>() > KEPT_LOGITS {
            kept.pop_front();
        }
        Ok(rows)
    }

    pub fn perplexity(&self, text: &str, ctx: usize) -> Result<Figure> {
        let key = (text.to_owned(), ctx);
        if let Some(known) = lock(&self.perplexities).get(&key) {
            return Ok(*known);
        }
        let tokenizer = self.artifact.tokenizer()?;
        let ids = tokenizer.encode(text, true)?;
        let found = perplexity(&self.model()?, &ids, ctx, bos_of(&tokenizer))?;
        let figure = Figure { perplexity: found.perplexity, tokens_scored: found.tokens_scored as u64 };
        lock(&self.perplexities).insert(key, figure);
        Ok(figure)
    }

    fn model(&self) -> Result<LoadedModel> {
        let model = self.artifact.model()?;
        self.model.get_or_init(|| LoadedModel::load(&model, &self.options)).clone()
    }
}

/// llama.cpp begins every chunk with BOS where the vocabulary adds one.
fn bos_of(tokenizer: &Tokenizer) -> Option<u32> {
    let spec = tokenizer.spec();
    if spec.add_bos { spec.bos } else { None }
}

/// A case that panicked under the lock left a cache that is only less full than it could be.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
