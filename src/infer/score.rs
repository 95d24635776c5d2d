//! Scoring texts: the log-probability of every next token, and perplexity by llama.cpp's rule.

use super::generate::common_prefix;
use super::{Feed, Feeding, LoadedModel, Passed, Row, Scoring, Session, Want, each_row};
use crate::stats::logsumexp;
use crate::{Error, Kind, Result};

/// Logits of so many positions are held at once: a vocabulary of 150,000 then takes 80 MB.
const PIECE: usize = 128;

/// So many texts are computed together: more make no pass larger and hold more keys and values.
const TOGETHER: usize = 16;

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
    Ok(score_many(model, &[ids])?.pop().unwrap_or_default())
}

/// [`score`] of every text, several in one pass. Tokens with which all texts begin are computed once; no result
/// depends on that.
///
/// # Errors
/// Those of [`score`] for one of the texts, and then no text is scored.
pub fn score_many(model: &LoadedModel, texts: &[&[u32]]) -> Result<Vec<Vec<f64>>> {
    for ids in texts {
        need("scoring", ids.len(), 2)?;
        if ids.len() > model.config().max_positions {
            let longest = model.config().max_positions;
            let what = format!("{} tokens exceed the model's context of {longest}", ids.len());
            return Err(Error::new(Kind::Usage, "text", what).hint("score it in chunks, or shorten it"));
        }
    }
    let prefix = common_prefix(texts);
    let mut trunk = model.session();
    let mut shared = [Vec::new()];
    if prefix > 0 {
        // What follows the last shared token is scored text by text, so that token is fed text by text.
        score_on(model, std::slice::from_mut(&mut trunk), &[&texts[0][..prefix]], 0, &mut shared)?;
    }
    let mut all = Vec::with_capacity(texts.len());
    for group in texts.chunks(TOGETHER) {
        let mut scores: Vec<Vec<f64>> = group.iter().map(|_| shared[0].clone()).collect();
        let mut sessions: Vec<Session> = group.iter().map(|_| trunk.fork()).collect();
        score_on(model, &mut sessions, group, trunk.position(), &mut scores)?;
        all.append(&mut scores);
    }
    Ok(all)
}

/// Perplexity of `ids` by the rule of llama.cpp's `perplexity`: consecutive chunks of `ctx` tokens, each in a
/// fresh context, the second half of each scored, a rest shorter than `ctx` left out. With `bos`, the first token
/// of every chunk is replaced by it. `ctx` 0 scores every next token of the whole text in one context.
///
/// # Errors
/// [`Kind::Usage`] for a text of fewer than two chunks, a `ctx` of 1 to 3 or beyond the model's context, or, with
/// `ctx` 0, a text longer than that context; [`Kind::NonFinite`] where a logit is NaN.
pub fn perplexity(model: &LoadedModel, ids: &[u32], ctx: usize, bos: Option<u32>) -> Result<Perplexity> {
    perplexity_with(model, ids, ctx, bos, &Passed::new(0))
}

/// [`perplexity`], with what earlier passes over the same text left: a chunk that was scored is not computed again, nor
/// is the beginning of one that has a sequence. The result has the same bits.
///
/// # Errors
/// Those of [`perplexity`].
pub fn perplexity_with(
    model: &LoadedModel,
    ids: &[u32],
    ctx: usize,
    bos: Option<u32>,
    passed: &Passed,
) -> Result<Perplexity> {
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
    let mut ids = ids[..ids.len() / ctx * ctx].to_vec();
    if let Some(bos) = bos {
        ids.iter_mut().step_by(ctx).for_each(|first| *first = bos);
    }
    let per_chunk = ctx - 1 - ctx / 2;
    let known: Vec<Option<Vec<f64>>> =
        ids.chunks_exact(ctx).map(|chunk| passed.scores(chunk, per_chunk)).collect();
    let unknown: Vec<usize> = (0..known.len()).filter(|chunk| known[*chunk].is_none()).collect();
    let left: Vec<u32> = unknown.iter().flat_map(|chunk| ids[chunk * ctx..][..ctx].to_vec()).collect();
    let threads = model.threads();
    let (feeding, from) = (Feeding::default(), Some(passed));
    let scoring =
        Scoring { ids: &left, ctx, rows: usize::MAX, feeding, threads, until: None, from, into: None };
    let scored = each_row(model, &scoring, &|row: Row| {
        log_probability(row.logits, row.label).ok_or_else(|| {
            let at = unknown[row.index / per_chunk] * ctx + ctx / 2 + 1 + row.index % per_chunk;
            not_a_number(at)
        })
    })?;
    // In order of the text, whoever scored it: the order of the sum decides its last bits.
    let (mut all, mut scored) = (Vec::with_capacity(ids.len() / ctx * per_chunk), scored.into_iter());
    for known in known {
        match known {
            Some(scores) => all.extend(scores),
            None => all.extend(scored.by_ref().take(per_chunk)),
        }
    }
    Ok(summary(&all))
}

/// Feeds the tokens of every text from `fed` on, and appends the log-probabilities of all that follow the first of
/// those to `scores`.
fn score_on(
    model: &LoadedModel,
    sessions: &mut [Session],
    texts: &[&[u32]],
    fed: usize,
    scores: &mut [Vec<f64>],
) -> Result<()> {
    let step = (PIECE / texts.len()).max(1);
    let longest = texts.iter().map(|ids| ids.len() - 1).max().unwrap_or(0);
    let mut logits = Vec::new(); // [rows of a piece, vocab]
    for from in (fed..longest).step_by(step) {
        let piece = |ids: &[u32]| from.min(ids.len() - 1)..(from + step).min(ids.len() - 1);
        let mut feeds = Vec::with_capacity(texts.len());
        let mut labels = Vec::with_capacity(texts.len());
        for ((session, ids), scores) in sessions.iter_mut().zip(texts).zip(&mut *scores) {
            let piece = piece(ids);
            if !piece.is_empty() {
                feeds.push(Feed { session, ids: &ids[piece.clone()], want: Want::All });
                labels.push((piece.start + 1, &ids[piece.start + 1..=piece.end], scores));
            }
        }
        model.forward_many(&mut feeds, &mut logits)?;
        let mut rows = logits.chunks_exact(model.config().vocab_size);
        for (first, labels, scores) in labels {
            // The labels first: where they end, no row is taken.
            for (i, (label, row)) in labels.iter().zip(rows.by_ref()).enumerate() {
                scores.push(log_probability(row, *label).ok_or_else(|| not_a_number(first + i))?);
            }
        }
    }
    Ok(())
}

/// None where a logit is NaN.
fn log_probability(logits: &[f32], label: u32) -> Option<f64> {
    // The log-sum-exp of a row with a NaN is one.
    let score = f64::from(logits[label as usize]) - logsumexp(logits);
    (!score.is_nan()).then_some(score)
}

fn not_a_number(token: usize) -> Error {
    Error::new(Kind::NonFinite, "scoring", "a logit is NaN")
        .at(format!("token {token}"))
        .hint("check the weights for NaN or infinite values")
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
