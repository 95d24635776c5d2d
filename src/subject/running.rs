//! One artifact on one backend: loaded once, its generations, logits and perplexities kept for the cases that ask again.

use super::artifact::Artifact;
use super::distributions::Taking;
use super::{
    Chunking, DistributionPlan, Divergences, Figure, Generated, KeptReference, KernelResult, LogitRows,
    SelfTest, Speed,
};
use crate::infer::{
    EngineOptions, GenerateOptions, LoadedModel, Passed, Sampling, generate, generate_many, perplexity_with,
};
use crate::oracle::StoredReference;
use crate::record::Adapter;
use crate::tokenizer::Tokenizer;
use crate::{Error, Kind, Result};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes of logits that are kept: the paths of a few prompts over a vocabulary of 150,000.
const KEPT_LOGITS: usize = 256 << 20;

/// References that are kept in memory: 50 MB each for 20,000 positions.
const KEPT_DISTRIBUTIONS: usize = 2;

/// Bytes of keys and values that are kept for perplexities, counted as f32: 4000 tokens of a model of 10^8 parameters.
const KEPT_SEQUENCES: usize = 192 << 20;

/// A loaded model with what it has already answered.
pub(super) struct Running {
    artifact: Arc<Artifact>,
    options: EngineOptions,
    model: Mutex<Option<Result<LoadedModel>>>,
    /// By prompt and number of tokens.
    generations: Mutex<HashMap<(String, usize), Arc<Generated>>>,
    /// Oldest first; bounded by [`KEPT_LOGITS`].
    logits: Mutex<VecDeque<(Vec<u32>, Arc<LogitRows>)>>,
    /// By text and context.
    perplexities: Mutex<HashMap<(String, Chunking), Figure>>,
    /// What divergences leave for perplexities of the same text.
    passed: Passed,
    /// Where distributions are kept between runs.
    folder: Option<PathBuf>,
    /// Oldest first; at most [`KEPT_DISTRIBUTIONS`].
    distributions: Mutex<VecDeque<(DistributionPlan, Arc<KeptReference>)>>,
    /// By what the reference depends on.
    divergences: Mutex<HashMap<String, Arc<Divergences>>>,
    /// By what the distributions depend on.
    self_tests: Mutex<HashMap<String, Arc<Vec<SelfTest>>>>,
    kernels: Mutex<Option<Arc<Vec<KernelResult>>>>,
}

impl Running {
    /// `artifact` on the backend of `options`, its distributions kept in `folder`; nothing is loaded yet.
    pub fn new(artifact: Arc<Artifact>, options: EngineOptions, folder: Option<PathBuf>) -> Running {
        Running {
            artifact,
            options,
            model: Mutex::default(),
            generations: Mutex::default(),
            logits: Mutex::default(),
            perplexities: Mutex::default(),
            passed: Passed::new(KEPT_SEQUENCES),
            folder,
            distributions: Mutex::default(),
            divergences: Mutex::default(),
            self_tests: Mutex::default(),
            kernels: Mutex::default(),
        }
    }

    /// Another artifact that runs as this one does; nothing is loaded yet.
    pub fn of(&self, artifact: Arc<Artifact>) -> Running {
        Running::new(artifact, self.options.clone(), self.folder.clone())
    }

    /// What follows every prompt; what is not known yet is generated in common passes.
    pub fn generate_many(&self, prompts: &[&str], tokens: usize) -> Vec<Result<Arc<Generated>>> {
        let key = |prompt: &str| (prompt.to_owned(), tokens);
        let mut unknown: Vec<&str> = Vec::new();
        for prompt in prompts {
            if !unknown.contains(prompt) && !lock(&self.generations).contains_key(&key(prompt)) {
                unknown.push(prompt);
            }
        }
        let mut failed: HashMap<&str, Error> = HashMap::new();
        for (prompt, made) in unknown.iter().zip(self.generate_anew(&unknown, tokens)) {
            match made {
                Ok(made) => drop(lock(&self.generations).insert(key(prompt), Arc::new(made))),
                Err(error) => drop(failed.insert(prompt, error)),
            }
        }
        let known = lock(&self.generations);
        let answer = |prompt: &&str| match (known.get(&key(prompt)), failed.get(prompt)) {
            (Some(known), _) => Ok(Arc::clone(known)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(Error::new(Kind::Internal, "generation", "a prompt was not answered")),
        };
        prompts.iter().map(answer).collect()
    }

    /// Of every prompt one answer, in order.
    fn generate_anew(&self, prompts: &[&str], tokens: usize) -> Vec<Result<Generated>> {
        let with = || Ok((self.artifact.tokenizer()?, self.model()?));
        let (tokenizer, model): (Arc<Tokenizer>, LoadedModel) = match with() {
            Ok(with) => with,
            Err(error) => return prompts.iter().map(|_| Err(Error::clone(&error))).collect(),
        };
        let ids: Vec<Result<Vec<u32>>> =
            prompts.iter().map(|prompt| tokenizer.encode(prompt, true)).collect();
        let fed: Vec<&[u32]> = ids.iter().flatten().map(Vec::as_slice).collect();
        let mut done = generate_many(&model, &fed, &greedy(&tokenizer, tokens)).into_iter();
        let answer = |prompt_ids: Result<Vec<u32>>| {
            let prompt_ids = prompt_ids?;
            let unanswered = || Err(Error::new(Kind::Internal, "generation", "a prompt was not answered"));
            let tokens = done.next().unwrap_or_else(unanswered)?.tokens;
            let text = tokenizer.decode(&tokens, true);
            Ok(Generated { prompt_ids, tokens, text })
        };
        ids.into_iter().map(answer).collect()
    }

    /// A generation that is timed and not kept.
    pub fn speed(&self, prompt: &str, tokens: usize) -> Result<Speed> {
        let tokenizer = self.artifact.tokenizer()?;
        let prompt_ids = tokenizer.encode(prompt, true)?;
        let options = greedy(&tokenizer, tokens);
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

    pub fn perplexity(&self, text: &str, chunking: Chunking) -> Result<Figure> {
        let key = (text.to_owned(), chunking);
        if let Some(known) = lock(&self.perplexities).get(&key) {
            return Ok(*known);
        }
        let tokenizer = self.artifact.tokenizer()?;
        let mut ids = tokenizer.encode(text, true)?;
        let Chunking { ctx, chunks } = chunking;
        if ctx > 0 {
            ids.truncate(chunks.saturating_mul(ctx));
        }
        let found = perplexity_with(&self.model()?, &ids, ctx, bos_of(&tokenizer), &self.passed)?;
        let figure = Figure { perplexity: found.perplexity, tokens_scored: found.tokens_scored as u64 };
        lock(&self.perplexities).insert(key, figure);
        Ok(figure)
    }

    pub fn distributions(&self, plan: &DistributionPlan) -> Result<Arc<KeptReference>> {
        if let Some((_, known)) = lock(&self.distributions).iter().find(|(of, _)| of == plan) {
            return Ok(Arc::clone(known));
        }
        let bos = bos_of(&*self.artifact.tokenizer()?);
        let kept = Arc::new(self.with_model(|taking| taking.take(plan, bos))?);
        let mut all = lock(&self.distributions);
        all.push_back((plan.clone(), Arc::clone(&kept)));
        while all.len() > KEPT_DISTRIBUTIONS {
            all.pop_front();
        }
        Ok(kept)
    }

    pub fn divergence(&self, reference: &StoredReference) -> Result<Arc<Divergences>> {
        let key = reference.key.file_name();
        if let Some(known) = lock(&self.divergences).get(&key) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(self.with_model(|taking| taking.diverge(reference, &self.passed))?);
        lock(&self.divergences).insert(key, Arc::clone(&found));
        Ok(found)
    }

    pub fn self_test(&self, own: &StoredReference) -> Result<Arc<Vec<SelfTest>>> {
        let key = own.key.file_name();
        if let Some(known) = lock(&self.self_tests).get(&key) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(self.with_model(|taking| taking.self_test(own))?);
        lock(&self.self_tests).insert(key, Arc::clone(&found));
        Ok(found)
    }

    fn with_model<T>(&self, ask: impl FnOnce(&Taking) -> Result<T>) -> Result<T> {
        let model = self.model()?;
        let Running { artifact, options, folder, .. } = self;
        ask(&Taking { artifact, model: &model, options, folder: folder.as_ref() })
    }

    pub fn kernels(&self) -> Result<Arc<Vec<KernelResult>>> {
        if let Some(known) = &*lock(&self.kernels) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(self.model()?.judge_kernels(&*self.artifact.model()?)?);
        *lock(&self.kernels) = Some(Arc::clone(&found));
        Ok(found)
    }

    /// The adapter that the model runs on, where it is loaded and on one.
    pub fn adapter(&self) -> Option<Adapter> {
        let loaded = lock(&self.model).as_ref()?.as_ref().ok()?.device();
        loaded.map(|device| device.adapter())
    }

    /// The model, loaded at the first call, and anew by the next case after its device was lost.
    pub fn model(&self) -> Result<LoadedModel> {
        let model = self.artifact.model()?;
        // Held while it loads: whoever asks meanwhile waits for it.
        let mut kept = lock(&self.model);
        current(&mut kept, LoadedModel::is_lost, || LoadedModel::load(&model, &self.options))
    }
}

/// What `kept` holds, made where there is nothing yet, what there is is lost, or the environment failed it the last time: a
/// lost device can be opened anew, memory may be free by now. Any other failure stays.
fn current<T: Clone>(
    kept: &mut Option<Result<T>>,
    is_lost: impl Fn(&T) -> bool,
    make: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let is_over = match kept {
        Some(Ok(known)) => is_lost(known),
        Some(Err(error)) => error.kind == Kind::Environment,
        None => false,
    };
    if is_over {
        // Its memory is given back before another takes its place.
        *kept = None;
    }
    kept.get_or_insert_with(make).clone()
}

/// At most `tokens` tokens, each the most probable.
fn greedy(tokenizer: &Tokenizer, tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens: tokens,
        stop: tokenizer.stop_ids(),
        sampling: Sampling::Greedy,
        logprobs: 0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    #[test]
    fn what_is_lost_is_made_anew_once_and_only_the_environment_is_asked_again() {
        let mut made = 0;
        let mut kept = None;
        let is_lost = |model: &Arc<AtomicBool>| model.load(Relaxed);
        let mut ask = || {
            current(&mut kept, is_lost, || {
                made += 1;
                Ok(Arc::new(AtomicBool::new(false)))
            })
            .expect("it can be made")
        };
        let first = ask();
        assert!(Arc::ptr_eq(&first, &ask()));
        first.store(true, Relaxed);
        let second = ask();
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &ask()));
        assert_eq!(made, 2);

        let mut kept: Option<Result<Arc<AtomicBool>>> = None;
        let failed = |kind| move || Err(Error::new(kind, "a model", "cannot be loaded"));
        assert!(current(&mut kept, is_lost, failed(Kind::Environment)).is_err());
        let error = current(&mut kept, is_lost, failed(Kind::Contract)).expect_err("asked again");
        assert_eq!(error.kind, Kind::Contract);
        let error =
            current(&mut kept, is_lost, || unreachable!("it is known to fail")).expect_err("as before");
        assert_eq!(error.kind, Kind::Contract);
    }
}
