//! `perplexity-drift`: two artifacts of one model predict a text almost equally well.

use super::evidence::Bound;
use super::perplexity::{CHUNKS, CTX, chunking};
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::Judgement;
use crate::subject::Answer;

/// `|perplexity - perplexity of the other|` on the model's text. Refuted where it is not below the limit.
pub struct PerplexityDrift;

const PARAMS: &[Param] = &[
    Param {
        name: "max_drift",
        doc: "the difference of the two perplexities must be below",
        default: Some(ParamDefault::Number(0.5)),
    },
    CTX,
    CHUNKS,
];

impl Gate for PerplexityDrift {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "perplexity-drift", per_prompt: false, needs_backend: true, against, params: PARAMS }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "The perplexities of two artifacts on the model's text are less than `max_drift` apart."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (limit, source) = trial.settings.number("max_drift")?;
        let chunking = chunking(trial)?;
        let (text, text_source) = trial.references.text()?;
        let other = trial.reference()?;
        let here = trial.subject.perplexity(&text, chunking)?;
        let there = other.perplexity(&text, chunking)?;
        // Two ways to score nothing are never near each other.
        let n = here.tokens_scored.min(there.tokens_scored);
        let mut evidence = Evidence::new();
        let drift = (here.perplexity - there.perplexity).abs();
        evidence.hold("perplexity_drift", drift, "", n, Bound::below(limit, source));
        evidence.note("perplexity", here.perplexity, "", here.tokens_scored);
        evidence.note(
            &format!("perplexity_of_{}", other.info().artifact),
            there.perplexity,
            "",
            there.tokens_scored,
        );
        evidence.tell(&format!("text: {text_source}"));
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    fn with(perplexity: f64) -> FakeSubject {
        let mut subject = FakeSubject::new("int4");
        subject.perplexity = perplexity;
        subject
    }

    #[test]
    fn near_perplexities_pass_and_both_are_in_the_evidence() {
        let judged = passes(Bench::default().compare(&PerplexityDrift, &with(7.4), &with(7.0)));
        assert_eq!(judged.measurements.len(), 3);
    }

    #[test]
    fn half_a_point_fails_and_so_do_two_infinite_ones() {
        fails(Bench::default().compare(&PerplexityDrift, &with(7.5), &with(7.0)), "perplexity_drift");
        let infinite = with(f64::INFINITY);
        fails(Bench::default().compare(&PerplexityDrift, &infinite, &infinite), "perplexity_drift");
    }
}
