//! Generation: prefill the prompt, then choose and append until an end token, the length or the context ends it.

use super::distribution::top_logprobs;
use super::sampling::Sampler;
use super::{GenerateOptions, Generation, LoadedModel, StepLogprobs, StopReason};
use crate::stats::logsumexp;
use crate::{Error, Kind, Result};
use std::ops::ControlFlow;

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
    let mut sampler = Sampler::new(&options.sampling, prompt)?;
    let mut session = model.session();
    let mut logits = session.prefill(prompt)?;
    let mut generation = Generation { tokens: Vec::new(), steps: Vec::new(), stop: StopReason::Length };
    for step in 0..options.max_tokens {
        if let Some(id) = logits.iter().position(|l| l.is_nan()) {
            let what = format!("the logit of token id {id} is NaN");
            return Err(Error::new(Kind::NonFinite, "generation", what)
                .at(format!("step {step}"))
                .hint("check the weights for NaN or infinite values"));
        }
        if options.logprobs > 0 {
            let top = top_logprobs(&logits, options.logprobs);
            generation.steps.push(StepLogprobs { logsumexp: logsumexp(&logits), top });
        }
        let id = sampler.choose(&logits);
        generation.tokens.push(id);
        let flow = on_token(id);
        if options.stop.contains(&id) {
            generation.stop = StopReason::Eos;
            break;
        }
        if flow.is_break() || step + 1 == options.max_tokens {
            break;
        }
        if session.position() == model.config().max_positions {
            generation.stop = StopReason::Context;
            break;
        }
        logits = session.step(id)?;
    }
    Ok(generation)
}
