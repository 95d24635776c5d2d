//! What passes over a text leave for later ones of the same model: the scores of whole chunks, and sequences that stand
//! at their ends. What rests on either has the bits that it has without.

use super::{LoadedModel, Session};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Chunks of one model that were scored.
pub struct Passed {
    /// By the tokens of a chunk, BOS put in already: the natural-log probability of each token of its second half that is
    /// scored.
    scores: Mutex<HashMap<Vec<u32>, Vec<f64>>>,
    ends: Mutex<Ends>,
}

/// Sequences at the ends of chunks.
struct Ends {
    /// By the tokens that the sequence has.
    sequences: Vec<(Vec<u32>, Session)>,
    /// Bytes of keys and values that there is place for.
    room: usize,
}

impl Passed {
    /// Nothing yet, with room for so many bytes of keys and values.
    pub fn new(room: usize) -> Passed {
        Passed { scores: Mutex::default(), ends: Mutex::new(Ends { sequences: Vec::new(), room }) }
    }

    /// Remembers the scores of a chunk.
    pub fn put_scores(&self, chunk: &[u32], scores: Vec<f64>) {
        lock(&self.scores).insert(chunk.to_vec(), scores);
    }

    /// The `n` scores of a chunk, where it was scored.
    pub fn scores(&self, chunk: &[u32], n: usize) -> Option<Vec<f64>> {
        lock(&self.scores).get(chunk).filter(|scores| scores.len() == n).cloned()
    }

    /// Remembers the sequence of `ids` of `model`, while there is room.
    pub(super) fn put_sequence(&self, model: &LoadedModel, ids: &[u32], sequence: Session) {
        let c = model.config();
        // Keys and values of one layer are at most f32.
        let cost = ids.len() * c.n_layers * c.n_kv_heads * c.head_dim * 2 * size_of::<f32>();
        let mut ends = lock(&self.ends);
        if ends.room >= cost && !ends.sequences.iter().any(|(known, _)| known == ids) {
            ends.room -= cost;
            ends.sequences.push((ids.to_vec(), sequence));
        }
    }

    /// A sequence of `model` that has as many of the first tokens of `ids` as a remembered one, and at most `most`.
    pub(super) fn begin(&self, model: &LoadedModel, ids: &[u32], most: usize) -> Session {
        let ends = lock(&self.ends);
        let fitting =
            ends.sequences.iter().filter(|(known, _)| known.len() <= most && ids.starts_with(known));
        let longest = fitting.max_by_key(|(known, _)| known.len());
        longest.map_or_else(|| model.session(), |(_, sequence)| sequence.fork())
    }
}

/// A pass that panicked under the lock left whole entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random_model::{Random, config, model};
    use crate::infer::{
        EngineOptions, Feeding, chunks_of, diverge_and_keep, keep, perplexity, perplexity_with,
    };
    use crate::infer::{Scoring, score};
    use crate::oracle::{ReferenceKey, StoredReference};
    use crate::tensor::DType;

    fn load(backend: &str, seed: u64) -> LoadedModel {
        let options = EngineOptions { backend: backend.into(), threads: 1, adapter: None };
        LoadedModel::load(&model(&config("llama"), DType::Q8_0, seed), &options).expect("a whole model")
    }

    fn reference(ids: &[u32], ctx: usize) -> StoredReference {
        let key = ReferenceKey {
            model: [0; 32],
            text: [0; 32],
            ctx: ctx as u32,
            chunks: (ids.len() / ctx) as u32,
            vocab: 131,
            top: 2,
            samples: 4,
            seed: 1,
        };
        let feeding = Feeding::default();
        let scoring =
            Scoring { ids, ctx, rows: usize::MAX, feeding, threads: 1, until: None, from: None, into: None };
        keep(&load("cpu", 5), &scoring, key).expect("scored")
    }

    #[test]
    fn a_perplexity_that_rests_on_divergences_has_the_same_bits() {
        for backend in ["reference", "cpu", "cpu-fast"] {
            let model = load(backend, 6);
            let text = Random(8).ids(250, 131);
            for (bos, ctx, chunks) in [(None, 20, 7), (Some(7), 10, 9), (Some(7), 5, 50), (None, 40, 3)] {
                let fresh = perplexity(&model, &text, 20, bos).expect("long enough");
                let passed = Passed::new(1 << 20);
                let own = reference(&chunks_of(&text, ctx, chunks, bos).expect("long enough"), ctx);
                let divergences = diverge_and_keep(&model, &own, 2, &passed).expect("scored");
                assert_eq!(divergences.len(), chunks * (ctx - 1 - ctx / 2));
                let found = perplexity_with(&model, &text, 20, bos, &passed).expect("long enough");
                assert_eq!(found, fresh, "{backend} {ctx}");
            }
        }
    }

    #[test]
    fn what_was_passed_is_taken_and_not_computed() {
        let model = load("cpu", 5);
        let ids = Random(8).ids(40, 131);
        let truth: Vec<f64> =
            ids.chunks(20).flat_map(|chunk| score(&model, chunk).expect("fits")[10..].to_vec()).collect();
        // A lie about the second chunk shows; one of another length is none about it.
        let passed = Passed::new(0);
        passed.put_scores(&ids[20..], vec![-1.0; 9]);
        let told = perplexity_with(&model, &ids, 20, None, &passed).expect("long enough");
        let mean = -(truth[..9].iter().sum::<f64>() - 9.0) / 18.0;
        assert!((told.mean_nll - mean).abs() < 1e-12 && told.tokens_scored == 18, "{told:?}");
        passed.put_scores(&ids[20..], vec![-1.0; 8]);
        let told = perplexity_with(&model, &ids, 20, None, &passed).expect("long enough");
        assert_eq!(told, perplexity(&model, &ids, 20, None).expect("long enough"));
    }

    #[test]
    fn a_sequence_is_continued_where_it_fits_and_there_was_room() {
        let model = load("cpu", 5);
        let ids = Random(8).ids(40, 131);
        let c = model.config();
        let passed = Passed::new(14 * c.n_layers * c.n_kv_heads * c.head_dim * 8);
        for n in [9, 9, 5, 6] {
            let mut session = model.session();
            session.append(&ids[..n]).expect("fits");
            passed.put_sequence(&model, &ids[..n], session);
        }
        // Room for 9 and 5, and no more.
        for (most, expected) in [(4, 0), (5, 5), (8, 5), (9, 9), (40, 9)] {
            assert_eq!(passed.begin(&model, &ids, most).position(), expected, "{most}");
        }
        assert_eq!(passed.begin(&model, &ids[1..], 40).position(), 0);
        // Who continues one does not change it.
        let mut first = passed.begin(&model, &ids, 9);
        let expected = first.prefill(&ids[9..20]).expect("fits");
        assert_eq!(passed.begin(&model, &ids, 9).prefill(&ids[9..20]).expect("fits"), expected);
        assert_eq!(model.session().prefill(&ids[..20]).expect("fits"), expected);
    }
}
