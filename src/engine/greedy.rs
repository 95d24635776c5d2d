//! Choices that the backend makes, so that the host need not read logits: the best few tokens of a step, and greedy steps
//! ahead: the backend chooses and embeds each token itself, and the host reads what was chosen at the end.

use super::Backend;
use super::decoder::{Decoder, Ending, Span, Tokens};
use super::sequences::{PIECE, Sequence};
use crate::Result;

impl<B: Backend> Decoder<B> {
    /// Appends `ids`, of which there are some and for which there is room, and chooses up to `n` tokens; see
    /// [`super::Context::greedy`]. What was computed past the end is forgotten: the sequence's position is set back, and
    /// what its caches hold beyond is stored anew.
    pub(super) fn choose_ahead(
        &self,
        sequence: &mut Sequence<B>,
        ids: &[u32],
        n: usize,
        stop: &[u32],
    ) -> Result<Vec<u32>> {
        let before = sequence.position;
        let full = before + ids.len();
        // The last token chosen takes no position.
        let n = n.min(self.config.max_positions - full + 1);
        if n == 0 || sequence.observer.is_some() {
            return Ok(Vec::new());
        }
        let found = self.steps(sequence, ids, n);
        sequence.position = before;
        let mut chosen: Vec<u32> = found?.into_iter().map_while(|id| id).collect();
        if let Some(end) = chosen.iter().position(|id| stop.contains(id)) {
            chosen.truncate(end + 1);
        }
        if !chosen.is_empty() {
            sequence.position = full + chosen.len() - 1;
        }
        Ok(chosen)
    }

    /// Appends `ids`, of which there are some and for which there is room, and picks the `k` best tokens to follow; see
    /// [`super::Context::best`].
    pub(super) fn pick_best(
        &self,
        sequence: &mut Sequence<B>,
        ids: &[u32],
        k: usize,
    ) -> Result<Vec<(u32, f32)>> {
        if sequence.observer.is_some() {
            return Ok(Vec::new());
        }
        let before = sequence.position;
        let mut best = Vec::new();
        let done = self.append(sequence, ids, Ending::Best(&mut best, k));
        if best.is_empty() {
            sequence.position = before;
        }
        done.map(|()| best)
    }

    /// `ids` appended piece by piece, and `ending` after the last.
    fn append(&self, sequence: &mut Sequence<B>, ids: &[u32], ending: Ending<'_, B>) -> Result<()> {
        let whole = ids.len().saturating_sub(1) / PIECE * PIECE;
        for piece in ids[..whole].chunks(PIECE) {
            let span = Span { tokens: Tokens::Known(piece), wanted: 0..0, sequence };
            self.pass(&mut [span], Ending::Logits(&mut []))?;
        }
        self.pass(&mut [Span { tokens: Tokens::Known(&ids[whole..]), wanted: 0..0, sequence }], ending)
    }

    /// `ids` and `n - 1` of the tokens that follow them appended, and all `n` read at last.
    fn steps(&self, sequence: &mut Sequence<B>, ids: &[u32], n: usize) -> Result<Vec<Option<u32>>> {
        let mut chosen = self.backend.chosen(n)?;
        self.append(sequence, ids, Ending::Choice(&mut chosen))?;
        for _ in 1..n {
            let span = Span { tokens: Tokens::Chosen, wanted: 0..0, sequence };
            self.pass(&mut [span], Ending::Choice(&mut chosen))?;
        }
        self.backend.read_chosen(&chosen)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::cpu::Cpu;
    use crate::engine::parity::{bits, engine};
    use crate::engine::random_model::{Random, config, gemma_like, model};
    use crate::engine::reference::Reference;
    use crate::engine::{Context, Engine, Numerics, Observer, Op, Tap, Want};
    use crate::models::{Model, ModelConfig};
    use crate::stats::argmax;
    use crate::tensor::{Bytes, DType};
    use crate::{Kind, Result};
    use std::sync::Arc;

    /// A model on every kind of backend; on the GPU where there is an adapter.
    fn engines(model: &Model) -> Vec<Arc<dyn Engine>> {
        let both = [Numerics::Exact, Numerics::Fast];
        let cpu = |numerics| engine(Cpu::new(2, numerics).expect("threads"), model);
        let mut all = vec![engine(Reference, model)];
        all.extend(both.map(cpu));
        #[cfg(feature = "wgpu")]
        all.extend(both.into_iter().filter_map(crate::engine::wgpu::for_tests).map(|gpu| engine(gpu, model)));
        all
    }

    /// What a loop of passes and choices gives: up to `n` tokens, ended by one of `stop`, and the context after it.
    fn looped(engine: &Arc<dyn Engine>, ids: &[u32], n: usize, stop: &[u32]) -> (Vec<u32>, Context) {
        let mut context = Arc::clone(engine).context();
        let (mut fed, mut chosen) = (ids.to_vec(), Vec::new());
        while chosen.len() < n {
            let logits = context.forward(&fed, Want::Last).expect("valid ids");
            let id = argmax(&logits).expect("no NaN");
            chosen.push(id);
            if stop.contains(&id) || context.position() == engine.config().max_positions {
                break;
            }
            fed = vec![id];
        }
        (chosen, context)
    }

    fn check(engine: &Arc<dyn Engine>, ids: &[u32], n: usize, stop: &[u32]) -> Vec<u32> {
        let case = format!("{} {} {n} {stop:?}", engine.backend_name(), ids.len());
        let (expected, mut by_loop) = looped(engine, ids, n, stop);
        let mut ahead = Arc::clone(engine).context();
        let found = ahead.greedy(ids, n, stop).expect("valid ids");
        assert_eq!(found, expected, "{case}");
        assert_eq!(ahead.position(), by_loop.position(), "{case}");
        if by_loop.position() < engine.config().max_positions {
            // Nothing is left of what was computed past the end.
            let next = [found.last().copied().unwrap_or(0)];
            let logits = |c: &mut Context| bits(&c.forward(&next, Want::Last).expect("room"));
            assert!(logits(&mut ahead) == logits(&mut by_loop), "{case}");
        }
        found
    }

    #[test]
    fn steps_ahead_choose_the_tokens_of_a_loop_and_leave_its_position() {
        for config in [config("llama"), config("qwen2"), config("gpt2"), gemma_like()] {
            for engine in engines(&model(&config, DType::Q8_0, 40)) {
                let free = check(&engine, &Random(1).ids(5, 131), 11, &[]);
                assert_eq!(free.len(), 11);
                check(&engine, &Random(1).ids(5, 131), 11, &free[3..5]);
                check(&engine, &Random(1).ids(5, 131), 1, &free[..1]);
                check(&engine, &Random(2).ids(1, 131), 1, &[]);
            }
        }
        // More than a pass holds.
        for engine in engines(&model(&config("llama"), DType::F16, 3)).split_off(1) {
            check(&engine, &Random(3).ids(140, 131), 3, &[]);
        }
    }

    #[test]
    fn steps_ahead_end_where_the_context_is_full_and_refuse_what_a_pass_refuses() {
        let small = ModelConfig { max_positions: 9, ..config("llama") };
        for engine in engines(&model(&small, DType::F16, 7)) {
            let ids = Random(4).ids(6, 131);
            assert_eq!(check(&engine, &ids, 50, &[]).len(), 4);
            assert_eq!(check(&engine, &Random(4).ids(9, 131), usize::MAX, &[]).len(), 1);
            let mut context = Arc::clone(&engine).context();
            for bad in [&[][..], &[131], &[1; 10]] {
                assert_eq!(context.greedy(bad, 3, &[]).expect_err("as a pass").kind, Kind::Usage);
            }
            assert!(context.greedy(&ids, 0, &[]).expect("nothing is asked for").is_empty());
            assert_eq!(context.position(), 0);
        }
    }

    #[test]
    fn a_choice_ends_before_a_nan() {
        let sound = model(&config("llama"), DType::F32, 2);
        let ids = Random(5).ids(4, 131);
        let free = looped(&engine(Reference, &sound), &ids, 3, &[]).0;
        assert!(free[2] != free[0] && free[2] != free[1] && !ids.contains(&free[2]), "{free:?}");
        // Whatever sees that token is NaN.
        let mut broken = sound;
        let table = broken.weights.get_mut("token_embd.weight").expect("there");
        let mut bytes = table.tensor.bytes.to_vec();
        let row = free[2] as usize * 256 * 4;
        bytes[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        table.tensor.bytes = Bytes::from_vec(bytes);
        for engine in engines(&broken) {
            let mut context = Arc::clone(&engine).context();
            assert_eq!(context.greedy(&ids, 8, &[]).expect("valid ids"), free);
            assert_eq!(context.position(), 6, "{}", engine.backend_name());
            assert!(context.greedy(&free[2..], 8, &[]).expect("valid ids").is_empty());
            assert_eq!(context.position(), 6, "nothing was appended");
            let logits = context.forward(&free[2..], Want::Last).expect("valid ids");
            assert!(logits.iter().any(|l| l.is_nan()), "{}", engine.backend_name());
        }
    }

    struct Watcher;

    impl Observer for Watcher {
        fn wants(&self, _op: Op) -> bool {
            false
        }

        fn see(&mut self, _tap: Tap, _values: Vec<f32>) -> Result<Option<Arc<Vec<f32>>>> {
            Ok(None)
        }
    }

    #[test]
    fn nothing_is_chosen_ahead_of_an_observer() {
        for engine in engines(&model(&config("llama"), DType::F16, 1)) {
            let mut context = Arc::clone(&engine).context();
            context.observe(Box::new(Watcher));
            assert!(context.greedy(&[1, 2], 3, &[]).expect("valid ids").is_empty());
            assert_eq!(context.position(), 0);
        }
    }
}
