//! Scoring a text: the log-probability of every next token, and perplexity by llama.cpp's rule.

use super::{LoadedModel, Session};
use crate::stats::logsumexp;
use crate::{Error, Kind, Result};

/// Logits of so many positions are held at once: a vocabulary of 150,000 then takes 40 MB.
const PIECE: usize = 64;

/// What a text costs per token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// `exp(mean_nll)`.
    pub perplexity: f64,
    /// Mean negative natural-log probability of the scored tokens.
    pub mean_nll: f64,
    /// How many tokens were scored.
    pub tokens_scored: usize,
}

/// The natural-log probability of every token of `ids` but the first, given all before it, in one context:
/// `ids.len() - 1` values.
///
/// # Errors
/// [`Kind::Usage`] for fewer than two tokens or more than the context holds; [`Kind::NonFinite`] where a logit is
/// NaN, naming the token.
pub fn score(model: &LoadedModel, ids: &[u32]) -> Result<Vec<f64>> {
    need("scoring", ids.len(), 2)?;
    if ids.len() > model.config().max_positions {
        let what =
            format!("{} tokens exceed the model's context of {}", ids.len(), model.config().max_positions);
        return Err(Error::new(Kind::Usage, "text", what).hint("score it in chunks, or shorten it"));
    }
    score_from(&mut model.session(), ids, 0, model.config().vocab_size)
}

/// Perplexity of `ids` by the rule of llama.cpp's `perplexity`: consecutive chunks of `ctx` tokens, each in a
/// fresh context, the second half of each scored, a rest shorter than `ctx` left out. With `bos`, the first token
/// of every chunk is replaced by it. `ctx` 0 scores every next token of the whole text in one context.
///
/// # Errors
/// [`Kind::Usage`] for a text of fewer than two chunks, a `ctx` of 1 to 3 or beyond the model's context, or, with
/// `ctx` 0, a text longer than that context; [`Kind::NonFinite`] where a logit is NaN.
pub fn perplexity(model: &LoadedModel, ids: &[u32], ctx: usize, bos: Option<u32>) -> Result<Perplexity> {
    if ctx == 0 {
        return Ok(summary(&score(model, ids)?));
    }
    let longest = model.config().max_positions;
    if !(4..=longest).contains(&ctx) {
        let what = format!("{ctx} tokens per chunk are out of range");
        return Err(
            Error::new(Kind::Usage, "ctx", what).hint(format!("use 4 to {longest}, or 0 for the whole text"))
        );
    }
    need(&format!("perplexity in chunks of {ctx}"), ids.len(), 2 * ctx)?;
    let mut session = model.session();
    let mut scored = Vec::new();
    for chunk in ids.chunks_exact(ctx) {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        session.reset();
        scored.extend(score_from(&mut session, &chunk, ctx / 2, model.config().vocab_size)?);
    }
    Ok(summary(&scored))
}

/// Log-probabilities of the tokens after `first`, given everything before each.
fn score_from(session: &mut Session, ids: &[u32], first: usize, vocab: usize) -> Result<Vec<f64>> {
    let inputs = &ids[..ids.len() - 1];
    if first > 0 {
        session.prefill(&inputs[..first])?;
    }
    let mut scores = Vec::with_capacity(inputs.len() - first);
    for piece in inputs[first..].chunks(PIECE) {
        for row in session.logits_all(piece)?.chunks_exact(vocab) {
            let at = first + scores.len() + 1;
            let score = f64::from(row[ids[at] as usize]) - logsumexp(row);
            // The log-sum-exp of a row with a NaN is one.
            if score.is_nan() {
                return Err(Error::new(Kind::NonFinite, "scoring", "a logit is NaN")
                    .at(format!("token {at}"))
                    .hint("check the weights for NaN or infinite values"));
            }
            scores.push(score);
        }
    }
    Ok(scores)
}

fn summary(scores: &[f64]) -> Perplexity {
    let mean_nll = -scores.iter().sum::<f64>() / scores.len() as f64;
    Perplexity { perplexity: mean_nll.exp(), mean_nll, tokens_scored: scores.len() }
}

fn need(what: &str, found: usize, needed: usize) -> Result<()> {
    if found >= needed {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        "text",
        format!("{what} needs at least {needed} tokens, the text has {found}"),
    )
    .hint("use a longer text"))
}
