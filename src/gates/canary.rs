//! `canary`: the artifact says exactly what the recorded oracle says, character for character.

use super::divergence::{differing_chars, of_texts, of_tokens};
use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::Judgement;
use crate::stats::count_mismatches;
use crate::subject::Answer;

/// Greedy text against the oracle's text, unstripped. Refuted by one differing character.
pub struct Canary;

impl Gate for Canary {
    fn info(&self) -> GateInfo {
        GateInfo {
            id: "canary",
            per_prompt: true,
            needs_backend: true,
            against: AgainstRule::None,
            params: &[],
        }
    }

    fn claim(&self) -> &'static str {
        "The greedy text equals the oracle's text exactly, white space included."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (oracle, source) = trial.oracle()?;
        let generated = trial.generate(trial.subject, oracle.max_new_tokens)?;
        // The end token alone is a measurement; no token at all is none.
        let n = generated.tokens.len() as u64;
        let mut evidence = Evidence::new();
        let differing = differing_chars(&oracle.text, &generated.text);
        evidence.hold("differing_characters", differing as f64, "characters", n, Bound::zero(source));
        let mismatches = count_mismatches(&oracle.tokens, &generated.tokens);
        evidence.note("mismatches", mismatches as f64, "tokens", n);
        if differing > 0 {
            evidence.tell(&of_texts(&oracle.text, &generated.text));
            evidence.tell(&of_tokens(trial.subject, &oracle.tokens, &generated.tokens)?);
        }
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Unable;
    use crate::subject::fake::FakeSubject;

    #[test]
    fn the_oracle_s_own_text_passes() {
        let judged = passes(Bench::default().judge(&Canary, &FakeSubject::new("int8"), None));
        assert_eq!(judged.measurements[0].n, 4);
    }

    #[test]
    fn one_other_token_is_shown_with_its_context() {
        let mut broken = FakeSubject::new("int8");
        broken.next.insert(2, 5);
        let judged = fails(Bench::default().judge(&Canary, &broken, None), "differing_characters");
        assert!(judged.detail.contains("after \"bc\""), "{}", judged.detail);
    }

    #[test]
    fn leading_white_space_is_text() {
        let mut bench = Bench::default();
        bench.shelf.oracle.as_mut().unwrap().text = " bcd".into();
        fails(bench.judge(&Canary, &FakeSubject::new("int8"), None), "differing_characters");
    }

    #[test]
    fn an_oracle_for_another_prompt_is_no_reference() {
        let mut bench = Bench::default();
        bench.shelf.oracle.as_mut().unwrap().prompt = "b".into();
        assert!(matches!(bench.judge(&Canary, &FakeSubject::new("int8"), None), Err(Unable::Reference(_))));
    }
}
