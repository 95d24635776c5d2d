//! `format-roundtrip`: another container, the same tokens.

use super::divergence::{of_texts, of_tokens};
use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::{Judgement, Unable};
use crate::stats::count_mismatches;
use crate::subject::Answer;

/// Greedy ids of the artifact against those of another one. Refuted by one differing id.
pub struct FormatRoundtrip;

impl Gate for FormatRoundtrip {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "format-roundtrip", per_prompt: true, needs_backend: true, against, params: &[] }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "The artifact and the one it was made from generate identical ids."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let other = trial.reference()?;
        let expected = trial.generate(other, trial.tokens)?;
        let found = trial.generate(trial.subject, trial.tokens)?;
        if expected.tokens.is_empty() || found.tokens.is_empty() {
            return Err(Unable::Vacuous("an empty generation says nothing about the other".into()));
        }
        let mut evidence = Evidence::new();
        let n = expected.tokens.len() as u64;
        let source = format!("ids of {}", other.info().artifact);
        let mismatches = count_mismatches(&expected.tokens, &found.tokens);
        evidence.hold("mismatches", mismatches as f64, "tokens", n, Bound::zero(source.clone()));
        let prompts = count_mismatches(&expected.prompt_ids, &found.prompt_ids);
        evidence.hold(
            "prompt_mismatches",
            prompts as f64,
            "tokens",
            expected.prompt_ids.len() as u64,
            Bound::zero(source),
        );
        if mismatches > 0 {
            evidence.tell(&of_tokens(trial.subject, &expected.tokens, &found.tokens)?);
            evidence.tell(&of_texts(&expected.text, &found.text));
        }
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    #[test]
    fn identical_ids_pass() {
        passes(Bench::default().compare(
            &FormatRoundtrip,
            &FakeSubject::new("gguf"),
            &FakeSubject::new("apr"),
        ));
    }

    #[test]
    fn another_token_fails() {
        let mut broken = FakeSubject::new("gguf");
        broken.next.insert(2, 6);
        let judged = fails(
            Bench::default().compare(&FormatRoundtrip, &broken, &FakeSubject::new("apr")),
            "mismatches",
        );
        assert!(judged.detail.contains("position 2"), "{}", judged.detail);
    }
}
