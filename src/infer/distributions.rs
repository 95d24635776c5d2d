//! The distributions of a model over a text, row by row: kept compactly, or compared with what was kept.
//!
//! The text is cut and scored as [`super::perplexity`] does it, short chunks together. Logits of a few positions are
//! in memory at once, whatever the length of the text.

use super::{Feed, LoadedModel, Passed, Session, Want};
use crate::oracle::{CompactRow, ReferenceKey, StoredReference};
use crate::stats::Position;
use crate::{Error, Kind, Result};
use std::ops::Range;
use std::thread;
use std::time::Instant;

/// How a text is fed; no result may depend on it, and the noise floor shows whether one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feeding {
    /// Tokens of the unscored half that are fed at once.
    pub prefill: usize,
    /// Tokens of the scored halves that are fed at once, of all chunks together: so many rows of logits are held.
    pub piece: usize,
    /// Chunks that are fed together, as far as that many tokens hold several.
    pub together: usize,
}

impl Default for Feeding {
    /// A vocabulary of 150,000 then takes 80 MB.
    fn default() -> Feeding {
        Feeding { prefill: usize::MAX, piece: 128, together: 512 }
    }
}

/// Which part of a text is scored, and how.
#[derive(Clone, Copy)]
pub struct Scoring<'a> {
    /// `[chunks * ctx]`; with BOS in place where the model's rules put one.
    pub ids: &'a [u32],
    /// Tokens per chunk.
    pub ctx: usize,
    /// Of the scored half of every chunk at most so many positions.
    pub rows: usize,
    /// How it is fed.
    pub feeding: Feeding,
    /// Threads that share the rows of one piece; no result depends on it.
    pub threads: usize,
    /// No chunk begins after this, except those that are fed with the first.
    pub until: Option<Instant>,
    /// What chunks may begin with; no result depends on it.
    pub from: Option<&'a Passed>,
    /// Where the sequences of every other chunk are left: a chunk of twice the length begins with one of those.
    pub into: Option<&'a Passed>,
}

/// The distribution after some tokens, and the token that really follows.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Counted over the positions of all chunks that are scored here.
    pub index: usize,
    /// What follows.
    pub label: u32,
    /// `[vocab]`
    pub logits: &'a [f32],
}

/// The tokens of whole chunks of `ctx` of `ids`, at most `chunks` of them, BOS put in the place of the first token of
/// each where there is one: llama.cpp's rule.
///
/// # Errors
/// [`Kind::Usage`] for a `ctx` under 4, and for a text shorter than one chunk.
pub fn chunks_of(ids: &[u32], ctx: usize, chunks: usize, bos: Option<u32>) -> Result<Vec<u32>> {
    if ctx < 4 || ids.len() < ctx || chunks == 0 {
        let what = format!("{} tokens make no chunk of {ctx}", ids.len());
        return Err(
            Error::new(Kind::Usage, "text", what).hint("use a longer text, or shorter chunks of at least 4")
        );
    }
    let mut kept: Vec<u32> = ids.chunks_exact(ctx).take(chunks).flatten().copied().collect();
    if let Some(bos) = bos {
        kept.iter_mut().step_by(ctx).for_each(|first| *first = bos);
    }
    Ok(kept)
}

/// What `judge` makes of every scored row, in order of the text. Rows of one piece are judged by several threads.
///
/// # Errors
/// Those of `judge`, the first in order of the text; [`Kind::Contract`] for chunks longer than the model's context.
pub fn each_row<T: Send>(
    model: &LoadedModel,
    scoring: &Scoring,
    judge: &(dyn Fn(Row) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let &Scoring { ids, ctx, rows, feeding, threads, until, from, into } = scoring;
    let longest = model.config().max_positions;
    if ctx > longest {
        let what = format!("the context of {longest} positions is shorter than chunks of {ctx} tokens");
        return Err(Error::new(Kind::Contract, "scoring", what).hint("use shorter chunks"));
    }
    let chunks: Vec<&[u32]> = ids.chunks_exact(ctx).collect();
    let scored = ctx / 2..(ctx - 1).min((ctx / 2).saturating_add(rows));
    let mut judged = Vec::new();
    let mut logits = Vec::new(); // [chunks of a group, positions of a piece, vocab]
    for (i, group) in chunks.chunks((feeding.together / ctx).max(1)).enumerate() {
        if i > 0 && until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        // Of every chunk what its rows gave: errors are told in order of the text.
        let mut found: Vec<Vec<Result<T>>> = group.iter().map(|_| Vec::new()).collect();
        let begin = |chunk: &&[u32]| from.map_or_else(|| model.session(), |p| p.begin(model, chunk, ctx / 2));
        let mut sessions: Vec<Session> = group.iter().map(begin).collect();
        for piece in pieces(0..ctx / 2, feeding.prefill) {
            feed(model, &mut sessions, group, piece, Want::None, &mut logits)?;
        }
        let vocab = model.config().vocab_size;
        for piece in pieces(scored.clone(), feeding.piece / group.len()) {
            feed(model, &mut sessions, group, piece.clone(), Want::All, &mut logits)?;
            let mut rows = Vec::with_capacity(group.len() * piece.len());
            for (c, (chunk, logits)) in group.iter().zip(logits.chunks_exact(piece.len() * vocab)).enumerate()
            {
                let first = judged.len() + c * scored.len() + piece.start - scored.start;
                let labels = &chunk[piece.start + 1..];
                let row = |(i, (logits, label))| Row { index: first + i, label, logits };
                rows.extend(logits.chunks_exact(vocab).zip(labels.iter().copied()).enumerate().map(row));
            }
            let mut results = judge_rows(&rows, threads, judge).into_iter();
            found.iter_mut().for_each(|found| found.extend(results.by_ref().take(piece.len())));
        }
        if let Some(passed) = into {
            let first = i * (feeding.together / ctx).max(1);
            for ((_, chunk), session) in (first..).zip(group).zip(sessions).filter(|((c, _), _)| c % 2 == 0) {
                passed.put_sequence(model, &chunk[..session.position()], session);
            }
        }
        for found in found {
            judged.extend(found.into_iter().collect::<Result<Vec<T>>>()?);
        }
    }
    Ok(judged)
}

/// Feeds the tokens `range` of every chunk to its session, except those that it has; `logits` becomes those wanted.
fn feed(
    model: &LoadedModel,
    sessions: &mut [Session],
    chunks: &[&[u32]],
    range: Range<usize>,
    want: Want,
    logits: &mut Vec<f32>,
) -> Result<()> {
    let mut feeds = Vec::with_capacity(chunks.len());
    for (session, chunk) in sessions.iter_mut().zip(chunks) {
        let left = session.position().max(range.start)..range.end;
        if !left.is_empty() {
            feeds.push(Feed { session, ids: &chunk[left], want });
        }
    }
    model.forward_many(&mut feeds, logits)
}

/// `range` in pieces of `len`, at least 1.
fn pieces(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let len = len.max(1).min(range.len().max(1));
    range.clone().step_by(len).map(move |start| start..(start + len).min(range.end))
}

/// Judges rows, by as many threads as there are; the order is that of the rows.
fn judge_rows<T: Send>(
    rows: &[Row],
    threads: usize,
    judge: &(dyn Fn(Row) -> Result<T> + Sync),
) -> Vec<Result<T>> {
    let share = rows.len().div_ceil(threads.max(1)).max(1);
    if share >= rows.len() {
        return rows.iter().map(|row| judge(*row)).collect();
    }
    thread::scope(|scope| {
        let work = |rows: &'_ [Row<'_>]| rows.iter().map(|row| judge(*row)).collect::<Vec<_>>();
        let workers: Vec<_> = rows.chunks(share).map(|rows| scope.spawn(move || work(rows))).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<Result<T>>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    })
}

/// The distributions of `model` over the text of `scoring`, compactly. `key` gives what is kept of a position; its
/// chunks become those that were reached before `scoring.until`.
///
/// # Errors
/// Those of [`each_row`]; [`Kind::NonFinite`] where a logit is NaN; [`Kind::Internal`] for a key of another model.
pub fn keep(model: &LoadedModel, scoring: &Scoring, key: ReferenceKey) -> Result<StoredReference> {
    if key.vocab as usize != model.config().vocab_size {
        return Err(Error::new(Kind::Internal, "scoring", "the key is that of another vocabulary"));
    }
    let rows = each_row(model, scoring, &|row| {
        let seed = key.seed.wrapping_add(row.index as u64);
        CompactRow::of(row.logits, row.label, key.top as usize, key.samples as usize, seed)
            .ok_or_else(|| no_number(row.index))
    })?;
    let chunks = rows.len() / key.per_chunk().max(1);
    let ids = scoring.ids[..chunks * scoring.ctx].to_vec();
    Ok(StoredReference { key: ReferenceKey { chunks: chunks as u32, ..key }, ids, rows })
}

/// How `model` differs from `reference` at the first `rows` scored positions of each of the first `chunks` chunks.
///
/// # Errors
/// Those of [`each_row`]; [`Kind::Contract`] for another vocabulary; [`Kind::NonFinite`] where a logit is NaN.
pub fn diverge(
    model: &LoadedModel,
    reference: &StoredReference,
    (chunks, rows): (usize, usize),
    feeding: Feeding,
    threads: usize,
) -> Result<Vec<Position>> {
    let ctx = reference.key.ctx as usize;
    let ids = &reference.ids[..(chunks * ctx).min(reference.ids.len())];
    compare(
        model,
        reference,
        &Scoring { ids, ctx, rows, feeding, threads, until: None, from: None, into: None },
    )
}

/// [`diverge`] at all positions; what a perplexity of the same text can use again is left in `passed`.
///
/// # Errors
/// Those of [`diverge`].
pub fn diverge_and_keep(
    model: &LoadedModel,
    reference: &StoredReference,
    threads: usize,
    passed: &Passed,
) -> Result<Vec<Position>> {
    let (ids, ctx, into) = (&reference.ids[..], reference.key.ctx as usize, Some(passed));
    let feeding = Feeding::default();
    let found = compare(
        model,
        reference,
        &Scoring { ids, ctx, rows: usize::MAX, feeding, threads, until: None, from: into, into },
    )?;
    for (chunk, positions) in ids.chunks_exact(ctx).zip(found.chunks_exact(reference.key.per_chunk())) {
        // What `Position` keeps negated.
        passed.put_scores(chunk, positions.iter().map(|position| -position.nll).collect());
    }
    Ok(found)
}

fn compare(model: &LoadedModel, reference: &StoredReference, scoring: &Scoring) -> Result<Vec<Position>> {
    let (ours, theirs) = (model.config().vocab_size, reference.key.vocab as usize);
    if ours != theirs {
        let what = format!("it has logits for {ours} tokens, its reference for {theirs}");
        return Err(
            Error::new(Kind::Contract, "scoring", what).hint("was padding of the vocabulary lost or added?")
        );
    }
    let per_chunk = reference.key.per_chunk().max(1);
    let here = per_chunk.min(scoring.rows).max(1);
    each_row(model, scoring, &|row| {
        let index = row.index / here * per_chunk + row.index % here;
        let kept = reference.rows.get(index).ok_or_else(|| no_number(row.index))?;
        kept.compare(row.logits).ok_or_else(|| no_number(row.index))
    })
}

/// How `model` differs from `base` at every scored position, over the whole vocabulary: both run, one chunk after the
/// other, and the rows of one chunk are held.
///
/// # Errors
/// Those of [`each_row`]; [`Kind::Contract`] for two vocabularies; [`Kind::NonFinite`] where a logit is NaN.
pub fn diverge_fully(base: &LoadedModel, model: &LoadedModel, scoring: &Scoring) -> Result<Vec<Position>> {
    let (ours, theirs) = (model.config().vocab_size, base.config().vocab_size);
    if ours != theirs {
        let what = format!("it has logits for {ours} tokens, its reference for {theirs}");
        return Err(Error::new(Kind::Contract, "scoring", what));
    }
    let mut all = Vec::new();
    for chunk in scoring.ids.chunks_exact(scoring.ctx) {
        let one = Scoring { ids: chunk, ..*scoring };
        let rows = each_row(base, &one, &|row| Ok(row.logits.to_vec()))?;
        let first = all.len();
        all.extend(each_row(model, &one, &|row| {
            Position::between(&rows[row.index], row.logits, row.label)
                .ok_or_else(|| no_number(first + row.index))
        })?);
    }
    Ok(all)
}

fn no_number(index: usize) -> Error {
    Error::new(Kind::NonFinite, "scoring", "a logit is NaN, or all are infinite")
        .at(format!("scored position {index}"))
        .hint("check the weights for NaN or infinite values")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random_model::{Random, config, model};
    use crate::infer::{EngineOptions, score};
    use crate::stats::{Position, kl_divergence};
    use crate::tensor::DType;

    fn load(family: &str, seed: u64) -> LoadedModel {
        let options = EngineOptions { backend: "reference".into(), threads: 1, adapter: None };
        LoadedModel::load(&model(&config(family), DType::F32, seed), &options).expect("a whole model")
    }

    fn key(chunks: usize, top: u32) -> ReferenceKey {
        ReferenceKey {
            model: [0; 32],
            text: [0; 32],
            ctx: 20,
            chunks: chunks as u32,
            vocab: 131,
            top,
            samples: 8,
            seed: 1,
        }
    }

    fn scoring(ids: &[u32], threads: usize, feeding: Feeding) -> Scoring<'_> {
        Scoring { ids, ctx: 20, rows: usize::MAX, feeding, threads, until: None, from: None, into: None }
    }

    #[test]
    fn rows_are_those_that_perplexity_scores() {
        let model = load("llama", 5);
        let ids = chunks_of(&Random(8).ids(45, 131), 20, 9, Some(7)).expect("two chunks");
        assert_eq!((ids.len(), ids[0], ids[20]), (40, 7, 7));
        let kept = keep(&model, &scoring(&ids, 1, Feeding::default()), key(2, 131)).expect("scored");
        let expected: Vec<f64> =
            ids.chunks(20).flat_map(|chunk| score(&model, chunk).expect("fits")[10..].to_vec()).collect();
        let found: Vec<f64> = kept.rows.iter().map(CompactRow::label_log_prob).collect();
        assert_eq!((found.len(), kept.key.per_chunk()), (18, 9));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    #[test]
    fn threads_and_feeding_change_nothing() {
        let model = load("qwen2", 5);
        let ids = chunks_of(&Random(4).ids(60, 131), 20, 9, None).expect("three chunks");
        let one = keep(&model, &scoring(&ids, 1, Feeding::default()), key(3, 16)).expect("scored");
        for (prefill, piece, together) in [(3, 4, 0), (3, 4, 45), (usize::MAX, 7, 1000), (1, 1, 40)] {
            let feeding = Feeding { prefill, piece, together };
            let split = keep(&model, &scoring(&ids, 3, feeding), key(3, 16)).expect("scored");
            assert_eq!(one, split, "{feeding:?}");
        }
        let none = diverge(&model, &one, (9, usize::MAX), Feeding::default(), 2).expect("scored");
        assert_eq!(none.len(), 27);
        assert!(none.iter().all(|p| p.kl.abs() < 1e-12 && p.same_top()), "{none:?}");
        assert_eq!(diverge(&model, &one, (2, usize::MAX), Feeding::default(), 2).expect("scored").len(), 18);
        // The first positions of every chunk are held against the same positions.
        let other = load("qwen2", 6);
        let all = diverge(&other, &one, (3, usize::MAX), Feeding::default(), 2).expect("scored");
        let feeding = Feeding { prefill: 7, piece: 2, together: 0 };
        let few = diverge(&other, &one, (2, 4), feeding, 2).expect("scored");
        assert_eq!(few, [&all[..4], &all[9..13]].concat());
    }

    #[test]
    fn the_compact_divergence_is_near_the_full_one_and_its_bounds_hold_it() {
        let (base, other) = (load("llama", 5), load("llama", 6));
        let ids = chunks_of(&Random(4).ids(200, 131), 20, 10, None).expect("ten chunks");
        let rows = |model: &LoadedModel| -> Vec<Vec<f32>> {
            each_row(model, &scoring(&ids, 2, Feeding::default()), &|row| Ok(row.logits.to_vec()))
                .expect("scored")
        };
        let full: Vec<f64> = rows(&base)
            .iter()
            .zip(rows(&other))
            .map(|(p, q)| kl_divergence(p, &q).expect("one length"))
            .collect();
        let kept = keep(&base, &scoring(&ids, 2, Feeding::default()), key(10, 24)).expect("scored");
        let found = diverge(&other, &kept, (10, usize::MAX), Feeding::default(), 2).expect("scored");
        assert!(found.iter().zip(&full).all(|(p, f)| p.kl_low <= f + 1e-10 && *f <= p.kl_high + 1e-10));
        let mean = |f: fn(&Position) -> f64| found.iter().map(f).sum::<f64>() / found.len() as f64;
        let truth = full.iter().sum::<f64>() / full.len() as f64;
        assert!((mean(|p| p.kl) - truth).abs() < 0.05 * truth, "{} {truth}", mean(|p| p.kl));
        let whole = keep(&base, &scoring(&ids, 2, Feeding::default()), key(10, 131)).expect("scored");
        let exact = diverge(&other, &whole, (10, usize::MAX), Feeding::default(), 1).expect("scored");
        assert!(exact.iter().zip(&full).all(|(p, f)| (p.kl - f).abs() < 1e-12));
        let both = diverge_fully(&base, &other, &scoring(&ids, 2, Feeding::default())).expect("scored");
        assert_eq!(both.iter().map(|p| p.kl).collect::<Vec<_>>(), full);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let model = load("llama", 5);
        let ids = chunks_of(&Random(4).ids(40, 131), 20, 9, None).expect("two chunks");
        let kept = keep(&model, &scoring(&ids, 1, Feeding::default()), key(2, 16)).expect("scored");
        let wider = StoredReference { key: ReferenceKey { vocab: 140, ..kept.key.clone() }, ..kept };
        let error =
            diverge(&model, &wider, (2, usize::MAX), Feeding::default(), 1).expect_err("another vocabulary");
        assert_eq!(error.kind, Kind::Contract);
        assert!(chunks_of(&ids, 41, 1, None).is_err() && chunks_of(&ids, 3, 1, None).is_err());
        let long = Random(4).ids(2000, 131);
        let long = Scoring { ids: &long, ctx: 2000, ..scoring(&ids, 1, Feeding::default()) };
        assert_eq!(each_row(&model, &long, &|_| Ok(())).expect_err("too long").kind, Kind::Contract);
    }

    #[test]
    fn time_that_is_up_ends_after_a_whole_chunk() {
        let model = load("llama", 5);
        let ids = chunks_of(&Random(4).ids(100, 131), 20, 5, None).expect("five chunks");
        let feeding = Feeding { together: 20, ..Feeding::default() };
        let late = Scoring { until: Some(Instant::now()), ..scoring(&ids, 1, feeding) };
        let kept = keep(&model, &late, key(5, 16)).expect("one chunk is always scored");
        assert_eq!((kept.key.chunks, kept.rows.len(), kept.ids.len()), (1, 9, 20));
    }
}
