//! Generation: prefill the prompt, then choose and append until an end token, the length or the context ends it.

use super::distribution::top_logprobs;
use super::sampling::Sampler;
use super::{Feed, GenerateOptions, Generation, LoadedModel, Session, StepLogprobs, StopReason, Want};
use crate::stats::logsumexp;
use crate::{Error, Kind, Result};
use std::ops::ControlFlow;

/// So many prompts are continued side by side: more hold more keys and values, and weights are read once for all
/// of these already.
const TOGETHER: usize = 16;

/// Continues `prompt`. `on_token` sees every id as it is chosen, the end token too; where it breaks, generation
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
    loop {
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
        all.extend(side_by_side(model, group, options).unwrap_or_else(|_| {
            // Some prompt is refused; alone, each gets its own result.
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
        generation.tokens.push(id);
        let flow = on_token(id);
        if options.stop.contains(&id) {
            generation.stop = StopReason::Eos;
            return Ok(None);
        }
        if flow.is_break() || step + 1 == options.max_tokens {
            return Ok(None);
        }
        if self.session.position() == model.config().max_positions {
            generation.stop = StopReason::Context;
            return Ok(None);
        }
        Ok(Some(id))
    }
}
