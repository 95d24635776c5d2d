//! `runtime-parity`: another backend, or another program, says the same from the same file.

use super::divergence::{differing_chars, of_texts, of_tokens};
use super::evidence::Bound;
use super::{Against, Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::stats::count_mismatches;
use crate::subject::{Answer, OutsideRuntime, Subject};

/// Greedy text, unstripped, against another runtime's; ids where it gives them; logits where it is a backend of ours.
/// Refuted by one differing character or id, or a logit further away than the limit.
pub struct RuntimeParity;

const PARAMS: &[Param] = &[Param {
    name: "max_logit_diff",
    doc: "between two backends: largest difference of a teacher-forced logit",
    default: Some(ParamDefault::Number(1e-3)),
}];

impl Gate for RuntimeParity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::BackendOrRuntime;
        GateInfo { id: "runtime-parity", per_prompt: true, needs_backend: true, against, params: PARAMS }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "Another runtime generates the same text from the same file, white space included."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        match &trial.against {
            Some(Against::Runtime(runtime)) => against_program(trial, *runtime),
            Some(Against::Subject(_)) | None => against_backend(trial, trial.reference()?),
        }
    }
}

fn against_program(trial: &Trial, runtime: &dyn OutsideRuntime) -> Answer<Judgement> {
    let (_, prompt) = trial.one_prompt()?;
    let ours = trial.generate(trial.subject, trial.tokens)?;
    let theirs = runtime.complete(trial.subject.info(), prompt, trial.tokens)?;
    let n = ours.tokens.len() as u64;
    if n == 0 {
        return Err(Unable::Vacuous("the artifact generated no token".into()));
    }
    let mut evidence = Evidence::new();
    let source = || format!("runtime {}", runtime.name());
    let differing = differing_chars(&theirs.text, &ours.text);
    evidence.hold("differing_characters", differing as f64, "characters", n, Bound::zero(source()));
    evidence.tell(&of_texts(&theirs.text, &ours.text));
    if let Some(ids) = &theirs.tokens {
        // Runtimes differ in whether they hand out the token that ends a generation; it has no text.
        let ended = ours.tokens.len() == ids.len() + 1 && ours.tokens.len() < trial.tokens;
        let own = if ended { &ours.tokens[..ids.len()] } else { &ours.tokens[..] };
        let mismatches = count_mismatches(ids, own);
        evidence.hold("mismatches", mismatches as f64, "tokens", n, Bound::zero(source()));
        evidence.tell(&of_tokens(trial.subject, ids, own)?);
    }
    evidence.judge()
}

fn against_backend(trial: &Trial, other: &dyn Subject) -> Answer<Judgement> {
    let (limit, limit_source) = trial.settings.number("max_logit_diff")?;
    let expected = trial.generate(other, trial.tokens)?;
    let found = trial.generate(trial.subject, trial.tokens)?;
    if expected.tokens.is_empty() || found.tokens.is_empty() {
        return Err(Unable::Vacuous("an empty generation says nothing about the other".into()));
    }
    let source = || format!("backend {}", other.info().backend);
    let mut evidence = Evidence::new();
    let differing = differing_chars(&expected.text, &found.text);
    let n = expected.tokens.len() as u64;
    evidence.hold("differing_characters", differing as f64, "characters", n, Bound::zero(source()));
    let mismatches = count_mismatches(&expected.tokens, &found.tokens);
    evidence.hold("mismatches", mismatches as f64, "tokens", n, Bound::zero(source()));
    evidence.tell(&of_tokens(trial.subject, &expected.tokens, &found.tokens)?);
    let fed: Vec<u32> = expected.prompt_ids.iter().chain(&expected.tokens).copied().collect();
    let (there, here) = (other.logits(&fed)?, trial.subject.logits(&fed)?);
    let worst = largest_difference(&there.data, &here.data);
    evidence.hold("max_logit_diff", worst, "", there.len() as u64, Bound::at_most(limit, limit_source));
    evidence.judge()
}

/// The largest difference of two equally long rows; infinite where lengths differ or a value is no number.
pub(super) fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let differences =
        a.iter().zip(b).map(|(x, y)| if x == y { 0.0 } else { (f64::from(*x) - f64::from(*y)).abs() });
    differences.fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;
    use crate::subject::{OutsideText, SubjectInfo};

    struct Parrot(&'static str, Option<Vec<u32>>);

    impl OutsideRuntime for Parrot {
        fn name(&self) -> &str {
            "parrot"
        }

        fn complete(&self, _: &SubjectInfo, _: &str, _: usize) -> Answer<OutsideText> {
            Ok(OutsideText { text: self.0.into(), tokens: self.1.clone() })
        }
    }

    fn against(parrot: &Parrot) -> Answer<Judgement> {
        Bench::default().judge(&RuntimeParity, &FakeSubject::new("gguf"), Some(Against::Runtime(parrot)))
    }

    #[test]
    fn a_program_that_says_the_same_passes_with_or_without_its_end_token() {
        passes(against(&Parrot("bcd", None)));
        passes(against(&Parrot("bcd", Some(vec![1, 2, 3, 8]))));
        passes(against(&Parrot("bcd", Some(vec![1, 2, 3]))));
    }

    #[test]
    fn a_program_that_strips_or_differs_fails() {
        fails(against(&Parrot("bcd\n", None)), "differing_characters");
        fails(against(&Parrot("bcd", Some(vec![1, 2, 4]))), "mismatches");
    }

    #[test]
    fn a_backend_must_agree_in_numbers_too() {
        let mut other = FakeSubject::new("gguf");
        passes(Bench::default().compare(&RuntimeParity, &FakeSubject::new("gguf"), &other));
        other.noise = 0.01;
        fails(Bench::default().compare(&RuntimeParity, &FakeSubject::new("gguf"), &other), "max_logit_diff");
        passes(Bench::default().limit("max_logit_diff", 0.1).compare(
            &RuntimeParity,
            &FakeSubject::new("gguf"),
            &other,
        ));
    }

    #[test]
    fn numbers_that_are_none_are_infinitely_far_apart() {
        assert_eq!(largest_difference(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(largest_difference(&[1.0], &[]), f64::INFINITY);
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.0, 2.5]), 0.5);
    }
}
