//! How fast a model is: a prompt in one batch, and tokens one by one, on a sequence that has some depth already.
//!
//! Tokens are fixed and none is sampled, as in llama-bench; every token's logits are computed and handed over.

mod memory;
mod work;

pub use memory::Memory;
pub use work::{Product, Work, cache_element_bytes};

use super::{LoadedModel, Session};
use crate::{Error, Kind, Result};
use std::time::Instant;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeedOptions {
    /// Tokens of the prompt; 0 leaves it out.
    pub prompt: usize,
    /// Tokens that are generated; 0 leaves it out.
    pub generate: usize,
    /// Tokens that the sequence holds before either; their time does not count.
    pub depth: usize,
}

/// One measurement; `None` for what was left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Tokens of the prompt per second.
    pub prompt: Option<f64>,
    /// Generated tokens per second.
    pub generate: Option<f64>,
}

/// Measures one model.
pub struct SpeedTest {
    session: Session,
    options: SpeedOptions,
    ids: Vec<u32>,
}

impl SpeedTest {
    /// # Errors
    /// [`Kind::Usage`] where there is nothing to measure, or more than the model's context holds.
    pub fn new(model: &LoadedModel, options: SpeedOptions) -> Result<SpeedTest> {
        let SpeedOptions { prompt, generate, depth } = options;
        let wrong = |what: String| Error::new(Kind::Usage, "bench", what);
        if prompt == 0 && generate == 0 {
            return Err(wrong("neither a prompt nor a generation is to be measured".to_owned()));
        }
        let (longest, context) = (prompt.max(generate), model.config().max_positions);
        if depth.checked_add(longest).is_none_or(|needed| needed > context) {
            let what = format!("{depth} + {longest} tokens do not fit into the model's context of {context}");
            return Err(wrong(what).hint("measure fewer tokens"));
        }
        let vocab = model.config().vocab_size.max(1);
        // Steps of a prime visit the vocabulary without a pattern that a cache could follow.
        let ids = (0..depth + longest).map(|i| ((i * 7919 + 13) % vocab) as u32).collect();
        Ok(SpeedTest { session: model.session(), options, ids })
    }

    /// Uses every weight once, so that the first measurement finds them in memory.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn warm_up(&mut self) -> Result<()> {
        self.session.reset();
        self.session.prefill(&self.ids[..self.ids.len().min(64)])?;
        if self.session.position() < self.ids.len() {
            self.session.step(self.ids[0])?;
        }
        Ok(())
    }

    /// Measures both once.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn round(&mut self) -> Result<Round> {
        let SpeedOptions { prompt, generate, .. } = self.options;
        Ok(Round {
            prompt: self.timed(prompt, SpeedTest::append_prompt)?,
            generate: self.timed(generate, SpeedTest::append_each)?,
        })
    }

    /// Empties the sequence and gives it its depth, after which [`SpeedTest::append`] is what is measured.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn fill(&mut self) -> Result<()> {
        self.session.reset();
        match self.options.depth {
            0 => Ok(()),
            depth => self.session.prefill(&self.ids[..depth]).map(drop),
        }
    }

    /// Appends the prompt, then what is generated, to what the sequence holds.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn append(&mut self) -> Result<()> {
        let SpeedOptions { prompt, generate, .. } = self.options;
        if prompt > 0 {
            self.append_prompt(prompt)?;
        }
        self.append_each(generate)
    }

    fn append_prompt(&mut self, n: usize) -> Result<()> {
        let depth = self.options.depth;
        self.session.prefill(&self.ids[depth..depth + n]).map(drop)
    }

    fn append_each(&mut self, n: usize) -> Result<()> {
        let depth = self.options.depth;
        self.ids[depth..depth + n].iter().try_for_each(|&id| self.session.step(id).map(drop))
    }

    /// Tokens per second of `append` on the next `n` ids after the depth.
    fn timed(
        &mut self,
        n: usize,
        append: impl Fn(&mut SpeedTest, usize) -> Result<()>,
    ) -> Result<Option<f64>> {
        if n == 0 {
            return Ok(None);
        }
        self.fill()?;
        let start = Instant::now();
        append(self, n)?;
        // The clock may not move at all while a tiny model computes; then the rate is what one tick gives.
        Ok(Some(n as f64 / start.elapsed().as_secs_f64().max(1e-9)))
    }
}

/// What repeated measurements came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of any number of values; `None` for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let n = values.len();
        Some(Spread { median: (values[(n - 1) / 2] + values[n / 2]) / 2.0, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random_model;
    use crate::infer::EngineOptions;
    use crate::tensor::DType;

    fn loaded() -> LoadedModel {
        let model = random_model::model(&random_model::config("llama"), DType::F32, 1);
        let options = EngineOptions { backend: "reference".into(), threads: 1, adapter: None };
        LoadedModel::load(&model, &options).expect("whole")
    }

    #[test]
    fn both_are_measured_and_what_is_left_out_is_none() {
        let model = loaded();
        let of = |prompt, generate, depth| {
            let mut test =
                SpeedTest::new(&model, SpeedOptions { prompt, generate, depth }).expect("fits the context");
            test.warm_up().expect("fits");
            let round = test.round().expect("fits");
            assert_eq!(test.round().expect("fits").prompt.is_some(), prompt > 0);
            (round.prompt.is_some_and(|r| r > 0.0), round.generate.is_some_and(|r| r > 0.0))
        };
        assert_eq!(of(3, 2, 5), (true, true));
        assert_eq!(of(0, 1, 0), (false, true));
        assert_eq!(of(1, 0, 0), (true, false));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let model = loaded();
        let refused = |prompt, generate, depth| {
            let error = SpeedTest::new(&model, SpeedOptions { prompt, generate, depth }).err();
            let error = error.expect("refused");
            assert_eq!(error.kind, Kind::Usage);
            error.to_string()
        };
        assert!(refused(0, 0, 4).contains("neither"));
        assert!(refused(300, 128, 101).contains("context of 400"));
        assert!(refused(1, 1, usize::MAX).contains("context of 400"));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
