//! Generation: prefill the prompt, then choose and append until an end token, the length or the context ends it.

use super::distribution::top_logprobs;
use super::sampling::Sampler;
use super::{
    Feed, GenerateOptions, Generation, LoadedModel, Sampling, Session, StepLogprobs, StopReason, Want,
};
use crate::stats::logsumexp;
use crate::{Error, Kind, Result};
use std::ops::ControlFlow;

/// So many prompts are continued side by side: more hold more keys and values, and weights are read once for all
/// of these already.
const TOGETHER: usize = 16;

/// A device gets so many greedy steps at once at most: what it computes past an end token is lost, so it begins with
/// one and gets twice as many each time.
const AHEAD: usize = 8;

/// Continues `prompt`. `on_token` sees every id once it is known, the end token too; where it breaks, generation
/// ends with [`StopReason::Length`] and the tokens so far.
///
/// # Errors
/// [`Kind::Usage`] for an empty prompt, a prompt longer than the context, an id outside the vocabulary or
/// sampling values out of range; [`Kind::NonFinite`] for a NaN logit, naming the step.
pub fn generate(
    model: &LoadedModel,
    prompt: &[u32],
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generation> {
    let mut writer = Writer::new(model.session(), prompt, options)?;
    let (mut fed, mut logits) = (prompt.to_vec(), Vec::new());
    let on_device = model.device().is_some() && options.logprobs == 0 && options.max_tokens > 0;
    let mut ahead = usize::from(on_device && matches!(options.sampling, Sampling::Greedy));
    let best = writer.sampler.needs_best().filter(|_| on_device);
    loop {
        let steps = match best {
            _ if ahead > 0 => writer.go_ahead(model, &fed, ahead, options, on_token)?,
            Some(k) => writer.pick(model, &fed, k, options, on_token)?,
            None => Steps::Refused,
        };
        match steps {
            Steps::Chosen(id) => {
                (fed, ahead) = (vec![id], AHEAD.min(2 * ahead));
                continue;
            }
            Steps::Ended => return Ok(writer.generation),
            Steps::Refused => {}
        }
        let feed = Feed { session: &mut writer.session, ids: &fed, want: Want::Last };
        model.forward_many(&mut [feed], &mut logits)?;
        match writer.choose(model, &logits, options, on_token)? {
            Some(id) => fed = vec![id],
            None => return Ok(writer.generation),
        }
    }
}

/// Continues every prompt as [`generate`] does, several in one pass: the same tokens, and the same errors, prompt by
/// prompt. Tokens with which all prompts begin are computed once.
pub fn generate_many(
    model: &LoadedModel,
    prompts: &[&[u32]],
    options: &GenerateOptions,
) -> Vec<Result<Generation>> {
    let mut all = Vec::with_capacity(prompts.len());
    for group in prompts.chunks(TOGETHER) {
        let together = match group {
            [_] => None,
            group => side_by_side(model, group, options).ok(),
        };
        all.extend(together.unwrap_or_else(|| {
            // There is one, or some prompt is refused: alone, each gets its own result.
            let alone =
                |prompt: &&[u32]| generate(model, prompt, options, &mut |_| ControlFlow::Continue(()));
            group.iter().map(alone).collect()
        }));
    }
    all
}

/// # Errors
/// What refuses one of the prompts; then nothing was generated.
fn side_by_side(
    model: &LoadedModel,
    prompts: &[&[u32]],
    options: &GenerateOptions,
) -> Result<Vec<Result<Generation>>> {
    let mut trunk = model.session();
    let shared = common_prefix(prompts);
    if shared > 0 {
        trunk.append(&prompts[0][..shared])?;
    }
    let begin = |prompt: &&[u32]| Writer::new(trunk.fork(), prompt, options);
    let mut writers: Vec<Writer> = prompts.iter().map(begin).collect::<Result<_>>()?;
    let feed = |(writer, prompt): (_, &&'_ [u32])| -> (&mut Writer, Vec<u32>) {
        (writer, prompt[shared..].to_vec())
    };
    // Those that go on, and what they are fed next.
    let mut active: Vec<(&mut Writer, Vec<u32>)> = writers.iter_mut().zip(prompts).map(feed).collect();
    let mut logits = Vec::new(); // [those that go on, vocab]
    while !active.is_empty() {
        let mut feeds: Vec<Feed<'_>> = active
            .iter_mut()
            .map(|(writer, ids)| Feed { session: &mut writer.session, ids, want: Want::Last })
            .collect();
        model.forward_many(&mut feeds, &mut logits)?;
        let mut going_on = Vec::with_capacity(active.len());
        let rows = logits.chunks_exact(model.config().vocab_size);
        for ((writer, _), logits) in active.into_iter().zip(rows) {
            match writer.choose(model, logits, options, &mut |_| ControlFlow::Continue(())) {
                Ok(Some(id)) => going_on.push((writer, vec![id])),
                Ok(None) => {}
                Err(error) => writer.failed = Some(error),
            }
        }
        active = going_on;
    }
    Ok(writers.into_iter().map(|w| w.failed.map_or(Ok(w.generation), Err)).collect())
}

/// Tokens with which all prompts begin, but for the last token of each; none for one prompt.
pub(super) fn common_prefix(prompts: &[&[u32]]) -> usize {
    let [first, rest @ ..] = prompts else { return 0 };
    let same = |other: &&[u32]| {
        let same = first.iter().zip(*other).take_while(|(a, b)| a == b).count();
        same.min(first.len().saturating_sub(1)).min(other.len().saturating_sub(1))
    };
    rest.iter().map(same).min().unwrap_or(0)
}

/// What came of some steps ahead.
enum Steps {
    /// Tokens, of which the last is fed next.
    Chosen(u32),
    /// The last token, and maybe some before it.
    Ended,
    /// Nothing: the logits must be looked at.
    Refused,
}

/// One generation in the making.
struct Writer {
    session: Session,
    sampler: Sampler,
    generation: Generation,
    failed: Option<Error>,
}

impl Writer {
    fn new(session: Session, prompt: &[u32], options: &GenerateOptions) -> Result<Writer> {
        let sampler = Sampler::new(&options.sampling, prompt)?;
        let generation = Generation { tokens: Vec::new(), steps: Vec::new(), stop: StopReason::Length };
        Ok(Writer { session, sampler, generation, failed: None })
    }

    /// Feeds `fed` and goes up to `n` steps without looking at logits.
    fn go_ahead(
        &mut self,
        model: &LoadedModel,
        fed: &[u32],
        n: usize,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Steps> {
        let n = n.min(options.max_tokens - self.generation.tokens.len());
        let position = self.session.position() + fed.len();
        let mut steps = Steps::Refused;
        for (i, id) in self.session.greedy(fed, n, &options.stop)?.into_iter().enumerate() {
            let full = position + i == model.config().max_positions;
            steps = match self.accept(id, full, options, on_token) {
                Some(id) => Steps::Chosen(id),
                None => return Ok(Steps::Ended),
            };
        }
        Ok(steps)
    }

    /// Feeds `fed` and draws among the `k` best tokens, which the device picks.
    fn pick(
        &mut self,
        model: &LoadedModel,
        fed: &[u32],
        k: usize,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Steps> {
        let best = self.session.best(fed, k)?;
        if best.is_empty() {
            return Ok(Steps::Refused);
        }
        let id = self.sampler.choose_among(&best);
        let full = self.session.position() == model.config().max_positions;
        Ok(self.accept(id, full, options, on_token).map_or(Steps::Ended, Steps::Chosen))
    }

    /// Chooses a token by `logits`; none where generation has ended.
    fn choose(
        &mut self,
        model: &LoadedModel,
        logits: &[f32],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Option<u32>> {
        let generation = &mut self.generation;
        let step = generation.tokens.len();
        if step == options.max_tokens {
            return Ok(None);
        }
        if let Some(id) = logits.iter().position(|l| l.is_nan()) {
            let what = format!("the logit of token id {id} is NaN");
            return Err(Error::new(Kind::NonFinite, "generation", what)
                .at(format!("step {step}"))
                .hint("check the weights for NaN or infinite values"));
        }
        if options.logprobs > 0 {
            let top = top_logprobs(logits, options.logprobs);
            generation.steps.push(StepLogprobs { logsumexp: logsumexp(logits), top });
        }
        let id = self.sampler.choose(logits);
        let full = self.session.position() == model.config().max_positions;
        Ok(self.accept(id, full, options, on_token))
    }

    /// Takes a chosen token, after which the context may be `full`; none where generation has ended.
    fn accept(
        &mut self,
        id: u32,
        full: bool,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Option<u32> {
        let generation = &mut self.generation;
        generation.tokens.push(id);
        let flow = on_token(id);
        if options.stop.contains(&id) {
            generation.stop = StopReason::Eos;
            return None;
        }
        if flow.is_break() || generation.tokens.len() == options.max_tokens {
            return None;
        }
        if full {
            generation.stop = StopReason::Context;
            return None;
        }
        Some(id)
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::engine::random_model::{Random, config, model};
    use crate::infer::EngineOptions;
    use crate::models::Model;
    use crate::tensor::{Bytes, DType};

    /// None with a word on standard error where there is no adapter.
    fn on_device(model: &Model) -> Option<LoadedModel> {
        let options = EngineOptions { backend: "wgpu".into(), threads: 1, adapter: None };
        let loaded = LoadedModel::load(model, &options);
        loaded.inspect_err(|error| eprintln!("SKIPPED, NOT TESTED: {error}")).ok()
    }

    /// With a logprob the host looks at every logit; without, the device goes ahead.
    fn both_ways(
        model: &LoadedModel,
        prompt: &[u32],
        options: &GenerateOptions,
        most: usize,
    ) -> [(Result<Generation>, Vec<u32>); 2] {
        [1, 0].map(|logprobs| {
            let (options, mut seen) = (GenerateOptions { logprobs, ..options.clone() }, Vec::new());
            let found = generate(model, prompt, &options, &mut |id| {
                seen.push(id);
                if seen.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            (found.map(|g| Generation { steps: vec![], ..g }), seen)
        })
    }

    #[test]
    fn a_device_that_goes_ahead_ends_as_one_that_is_asked_for_logits() {
        let small = crate::models::ModelConfig { max_positions: 30, ..config("llama") };
        let Some(model) = on_device(&model(&small, DType::F32, 5)) else { return };
        let options = |max_tokens| GenerateOptions {
            max_tokens,
            stop: vec![],
            sampling: Sampling::Greedy,
            logprobs: 0,
        };
        let prompt = Random(3).ids(4, 131);
        let [(free, _), _] = both_ways(&model, &prompt, &options(26), 0);
        let free = free.expect("valid").tokens;
        let stop = |at: usize| GenerateOptions { stop: vec![free[at]], ..options(20) };
        let mut cases = vec![(options(0), 0), (options(1), 0), (options(11), 0), (options(99), 0)];
        cases.extend([0, 2, 6, 13].map(|at| (stop(at), 0)));
        cases.extend([1, 2, 5, 9].map(|most| (options(20), most)));
        for (options, most) in cases {
            let [(expected, heard), (found, seen)] = both_ways(&model, &prompt, &options, most);
            assert_eq!(found.expect("valid"), expected.expect("valid"), "{options:?} {most}");
            assert_eq!(seen, heard);
        }
        for bad in [&[][..], &[131], &[1; 31]] {
            let [(expected, _), (found, _)] = both_ways(&model, bad, &options(3), 0);
            let words = |found: Result<Generation>| found.expect_err("bad prompt").to_string();
            assert_eq!(words(found), words(expected));
        }
    }

    #[test]
    fn what_a_device_picks_draws_the_tokens_of_all_logits() {
        let Some(model) = on_device(&model(&config("qwen2"), DType::F32, 5)) else { return };
        let prompt = Random(3).ids(4, 131);
        for (top_k, top_p, seed) in [(1, 1.0, 1), (40, 0.9, 2), (131, 1.0, 3), (256, 0.5, 4)] {
            let sampling = Sampling::Random { repeat_penalty: 1.0, temperature: 1.5, top_k, top_p, seed };
            let options = GenerateOptions { max_tokens: 12, stop: vec![], sampling, logprobs: 0 };
            let [(expected, heard), (found, seen)] = both_ways(&model, &prompt, &options, 0);
            assert_eq!(found.expect("valid"), expected.expect("valid"), "{options:?}");
            assert_eq!(seen, heard);
        }
    }

    #[test]
    fn a_nan_far_ahead_is_the_error_of_its_step() {
        let sound = model(&config("llama"), DType::F32, 5);
        let options =
            GenerateOptions { max_tokens: 12, stop: vec![], sampling: Sampling::Greedy, logprobs: 0 };
        let prompt = Random(3).ids(4, 131);
        let Some(model) = on_device(&sound) else { return };
        let free = both_ways(&model, &prompt, &options, 0)[0].1.clone();
        let at = (4..12).find(|i| !free[..*i].contains(&free[*i]) && !prompt.contains(&free[*i]));
        let id = free[at.expect("a token that is new")] as usize;
        let mut broken = sound;
        let table = broken.weights.get_mut("token_embd.weight").expect("there");
        let mut bytes = table.tensor.bytes.to_vec();
        bytes[id * 1024..id * 1024 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        table.tensor.bytes = Bytes::from_vec(bytes);
        let broken = on_device(&broken).expect("it opened before");
        let [(expected, heard), (found, seen)] = both_ways(&broken, &prompt, &options, 0);
        let error = found.expect_err("NaN");
        assert_eq!(error.kind, Kind::NonFinite);
        assert_eq!(error.to_string(), expected.expect_err("NaN").to_string());
        assert_eq!(seen, heard);
    }
}
