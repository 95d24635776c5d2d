//! A sequence in the making, as its user holds it: tokens go in, logits come out, and a fork continues where it is.

use super::{Engine, MOST_BEST, Observer};
use crate::{Error, Kind, Result};
use std::ops::Range;
use std::sync::Arc;

/// One sequence of an engine: its keys and values, and how far it is. The engine forgets it when it is dropped.
pub struct Context {
    engine: Arc<dyn Engine>,
    sequence: SequenceId,
}

/// Names a sequence of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u64);

/// Which logits a forward pass returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: the tokens are only kept.
    None,
    /// Of the last token: `[1, vocab]`.
    Last,
    /// Of every token: `[n_tokens, vocab]`.
    All,
    /// Of the tokens from that one on: `[n_tokens - first, vocab]`.
    From(usize),
}

impl Want {
    /// The tokens of `n` whose logits are wanted.
    pub fn of(self, n: usize) -> Range<usize> {
        match self {
            Want::None => n..n,
            Want::Last => n.saturating_sub(1)..n,
            Want::All => 0..n,
            Want::From(first) => first.min(n)..n,
        }
    }
}

/// Tokens for one of several sequences that are computed together.
pub struct Feed<'a> {
    /// Which sequence.
    pub sequence: SequenceId,
    /// What is appended to it.
    pub ids: &'a [u32],
    /// Which logits are returned.
    pub want: Want,
}

impl Context {
    /// An empty sequence on `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Context {
        let sequence = engine.open();
        Context { engine, sequence }
    }

    /// Appends `ids` and returns the logits asked for.
    ///
    /// # Errors
    /// [`Kind::Usage`] for no ids, an id outside the vocabulary, or more positions than the model has; then
    /// nothing was appended.
    pub fn forward(&mut self, ids: &[u32], want: Want) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        self.engine.forward(&[Feed { sequence: self.sequence, ids, want }], &mut logits)?;
        Ok(logits)
    }

    /// Appends to several sequences at once. `logits` becomes those asked for, `[wanted of all feeds, vocab]`, in order;
    /// its memory is used again. Every sequence gets the bits that it gets alone.
    ///
    /// # Errors
    /// Those of [`Context::forward`] of the first sequence that has one, and then nothing was appended to any;
    /// [`Kind::Internal`] for sequences of several engines.
    pub fn forward_many(feeds: &mut [(&mut Context, &[u32], Want)], logits: &mut Vec<f32>) -> Result<()> {
        let Some((first, ..)) = feeds.first() else {
            logits.clear();
            return Ok(());
        };
        let engine = Arc::clone(&first.engine);
        // Only the address counts: one engine has one.
        let address = |engine: &Arc<dyn Engine>| Arc::as_ptr(engine).cast::<()>();
        if feeds.iter().any(|(context, ..)| address(&context.engine) != address(&engine)) {
            return Err(Error::new(Kind::Internal, "forward pass", "its sequences belong to several models"));
        }
        let feeds: Vec<Feed<'_>> = feeds
            .iter()
            .map(|(context, ids, want)| Feed { sequence: context.sequence, ids, want: *want })
            .collect();
        engine.forward(&feeds, logits)
    }

    /// Appends `ids` and chooses up to `n` tokens, each the largest logit after all before it, the lowest id among
    /// equals. All steps are handed to the backend before the first choice is read. The choice ends after a token
    /// of `stop` and where the context is full. The last token chosen is not appended yet, as in a loop of
    /// [`Context::forward`] and choice.
    ///
    /// Fewer tokens come back where a logit is NaN. Where that is so of the first choice, or somebody observes the
    /// sequence, none do and nothing was appended: [`Context::forward`] then tells more.
    ///
    /// # Errors
    /// Those of [`Context::forward`].
    pub fn greedy(&mut self, ids: &[u32], n: usize, stop: &[u32]) -> Result<Vec<u32>> {
        self.engine.greedy(self.sequence, ids, n, stop)
    }

    /// Appends `ids` and gives the `k` largest of the logits after the last, best first, the lowest id first among equals,
    /// and all of them where there are fewer. `k` is from 1 to [`MOST_BEST`].
    ///
    /// None come back where a logit is NaN, or where somebody observes the sequence: then nothing was appended, and
    /// [`Context::forward`] tells more.
    ///
    /// # Errors
    /// Those of [`Context::forward`].
    pub fn best(&mut self, ids: &[u32], k: usize) -> Result<Vec<(u32, f32)>> {
        self.engine.best(self.sequence, ids, k.clamp(1, MOST_BEST).min(self.engine.config().vocab_size))
    }

    /// A second sequence with the same tokens, which share their keys and values. Nobody observes it.
    pub fn fork(&self) -> Context {
        Context { engine: Arc::clone(&self.engine), sequence: self.engine.fork(self.sequence) }
    }

    /// How many tokens are in the cache.
    pub fn position(&self) -> usize {
        self.engine.position(self.sequence)
    }

    /// Forgets every token.
    pub fn reset(&mut self) {
        self.engine.reset(self.sequence);
    }

    /// From now on shows `observer` what the operations that it wants to see give.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.engine.observe(self.sequence, observer);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.engine.close(self.sequence);
    }
}
