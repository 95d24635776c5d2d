//! The sequences of a decoder, and how the tokens of several are laid out in passes. No result depends on that.

use super::decoder::{Decoder, Ending, Span, Tokens};
use super::{
    Backend, Context, DeviceInfo, Engine, Feed, KernelResult, KernelTime, Observer, SequenceId, Want,
    kernel_parity,
};
use crate::models::{Model, ModelConfig};
use crate::{Error, Kind, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pass computes so many tokens at most: few enough that their activations stay in the caches of the processor, many
/// enough that decoding the weights costs little; a multiple of the 6 and 12 tokens that products are computed for
/// side by side. No result depends on it.
pub(super) const PIECE: usize = 264;

/// Everything that a decoder remembers between passes.
pub(super) struct Sequences<B: Backend>(Mutex<All<B>>);

struct All<B: Backend> {
    next: u64,
    by_id: HashMap<SequenceId, Sequence<B>>,
}

/// One sequence.
pub(super) struct Sequence<B: Backend> {
    /// Tokens in the caches.
    pub position: usize,
    /// One per layer.
    pub caches: Vec<B::Cache>,
    pub observer: Option<Box<dyn Observer>>,
}

impl<B: Backend> Sequences<B> {
    pub(super) fn new() -> Self {
        Sequences(Mutex::new(All { next: 0, by_id: HashMap::new() }))
    }

    /// The lock is held for moves only, so a panic cannot leave anything half-done.
    fn all(&self) -> MutexGuard<'_, All<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, sequence: Sequence<B>) -> SequenceId {
        let mut all = self.all();
        let id = SequenceId(all.next);
        all.next += 1;
        all.by_id.insert(id, sequence);
        id
    }

    /// Takes the sequences of `feeds` out, in order.
    fn take(&self, feeds: &[Feed<'_>]) -> Result<Vec<Sequence<B>>> {
        let mut all = self.all();
        let mut taken = Vec::with_capacity(feeds.len());
        for feed in feeds {
            match all.by_id.remove(&feed.sequence) {
                Some(sequence) => taken.push(sequence),
                None => {
                    all.by_id.extend(feeds.iter().map(|f| f.sequence).zip(taken));
                    let what = "a sequence is fed twice at once, or was lost when a pass panicked";
                    return Err(Error::new(Kind::Internal, "forward pass", what));
                }
            }
        }
        Ok(taken)
    }

    fn put_back(&self, feeds: &[Feed<'_>], taken: Vec<Sequence<B>>) {
        self.all().by_id.extend(feeds.iter().map(|f| f.sequence).zip(taken));
    }
}

impl<B: Backend> Engine for Decoder<B> {
    fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    fn device(&self) -> Option<DeviceInfo> {
        self.backend.device()
    }

    fn is_lost(&self) -> bool {
        self.backend.is_lost()
    }

    fn begin_profile(&self) -> Result<()> {
        self.backend.begin_profile()
    }

    fn end_profile(&self) -> Result<Vec<KernelTime>> {
        self.backend.end_profile()
    }

    fn judge_kernels(&self, model: &Model) -> Result<Vec<KernelResult>> {
        kernel_parity::judge(self, model)
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn context(self: Arc<Self>) -> Context {
        Context::new(self)
    }

    fn open(&self) -> SequenceId {
        self.sequences.add(Sequence { position: 0, caches: self.empty_caches(), observer: None })
    }

    fn fork(&self, sequence: SequenceId) -> SequenceId {
        let forked = self.sequences.all().by_id.get(&sequence).map(|of| Sequence {
            position: of.position,
            caches: of.caches.clone(),
            observer: None,
        });
        match forked {
            Some(fork) => self.sequences.add(fork),
            // Lost when a pass panicked: its fork is lost as well, and feeding it is the error.
            None => sequence,
        }
    }

    fn close(&self, sequence: SequenceId) {
        self.sequences.all().by_id.remove(&sequence);
    }

    fn position(&self, sequence: SequenceId) -> usize {
        self.sequences.all().by_id.get(&sequence).map_or(0, |s| s.position)
    }

    fn reset(&self, sequence: SequenceId) {
        let caches = self.empty_caches();
        if let Some(sequence) = self.sequences.all().by_id.get_mut(&sequence) {
            (sequence.position, sequence.caches) = (0, caches);
        }
    }

    fn observe(&self, sequence: SequenceId, observer: Box<dyn Observer>) {
        if let Some(sequence) = self.sequences.all().by_id.get_mut(&sequence) {
            sequence.observer = Some(observer);
        }
    }

    fn forward(&self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let mut taken = self.sequences.take(feeds)?;
        let admitted = feeds.iter().zip(&taken).try_for_each(|(f, s)| admit(&self.config, s.position, f.ids));
        let done = admitted.and_then(|()| {
            let rows: usize = feeds.iter().map(|feed| feed.want.of(feed.ids.len()).len()).sum();
            // What is there already is overwritten, not cleared.
            logits.resize(rows * self.config.vocab_size, 0.0);
            self.all_passes(feeds, &mut taken, logits)
        });
        self.sequences.put_back(feeds, taken);
        done
    }

    fn greedy(&self, sequence: SequenceId, ids: &[u32], n: usize, stop: &[u32]) -> Result<Vec<u32>> {
        self.alone(sequence, ids, |s| self.choose_ahead(s, ids, n, stop))
    }

    fn best(&self, sequence: SequenceId, ids: &[u32], k: usize) -> Result<Vec<(u32, f32)>> {
        self.alone(sequence, ids, |s| self.pick_best(s, ids, k))
    }
}

impl<B: Backend> Decoder<B> {
    /// What `act` makes of one sequence, which has room for `ids`.
    fn alone<T>(
        &self,
        sequence: SequenceId,
        ids: &[u32],
        act: impl Fn(&mut Sequence<B>) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let feeds = [Feed { sequence, ids, want: Want::Last }];
        let mut taken = self.sequences.take(&feeds)?;
        let one = |s: &mut Sequence<B>| {
            admit(&self.config, s.position, ids)?;
            act(s)
        };
        let done = taken.iter_mut().try_fold(Vec::new(), |_, s| one(s));
        self.sequences.put_back(&feeds, taken);
        done
    }

    fn empty_caches(&self) -> Vec<B::Cache> {
        (0..self.config.n_layers).map(|_| self.backend.cache(&self.heads)).collect()
    }

    /// All tokens of `feeds` in passes of at most [`PIECE`]; a sequence that is observed has passes of its own. Fills
    /// `logits`, `[wanted of all feeds, vocab]`.
    fn all_passes(
        &self,
        feeds: &[Feed<'_>],
        sequences: &mut [Sequence<B>],
        mut logits: &mut [f32],
    ) -> Result<()> {
        // The next token is that of feed `next`, at `done`.
        let (mut next, mut done) = (0, 0);
        while next < feeds.len() {
            let first = next;
            let mut left = PIECE;
            let mut spans: Vec<Span<'_, B>> = Vec::new();
            for (feed, sequence) in feeds[first..].iter().zip(&mut sequences[first..]) {
                let alone = sequence.observer.is_some();
                if left == 0 || alone && !spans.is_empty() {
                    break;
                }
                let piece = done..(done + left).min(feed.ids.len());
                left = if alone { 0 } else { left - piece.len() };
                let wanted = feed.want.of(feed.ids.len());
                let wanted =
                    wanted.start.clamp(piece.start, piece.end)..wanted.end.clamp(piece.start, piece.end);
                spans.push(Span {
                    tokens: Tokens::Known(&feed.ids[piece.clone()]),
                    wanted: wanted.start - piece.start..wanted.end - piece.start,
                    sequence,
                });
                (next, done) = match piece.end == feed.ids.len() {
                    true => (next + 1, 0),
                    false => (next, piece.end),
                };
            }
            let rows: usize = spans.iter().map(|span| span.wanted.len()).sum();
            let (own, later) = logits.split_at_mut(rows * self.config.vocab_size);
            logits = later;
            self.pass(&mut spans, Ending::Logits(own))?;
        }
        Ok(())
    }
}

fn admit(config: &ModelConfig, position: usize, ids: &[u32]) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::new(Kind::Usage, "prompt", "there are no tokens to compute")
            .hint("an empty text without a begin token has none"));
    }
    if let Some((i, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= config.vocab_size) {
        let what = format!("token id {id} is not below the vocabulary of {}", config.vocab_size);
        return Err(Error::new(Kind::Usage, "prompt", what).at(format!("token {i}")));
    }
    if ids.len() > config.max_positions.saturating_sub(position) {
        let what = format!(
            "{} tokens after {position} exceed the model's context of {}",
            ids.len(),
            config.max_positions
        );
        return Err(Error::new(Kind::Usage, "context", what).hint("shorten the text"));
    }
    Ok(())
}
