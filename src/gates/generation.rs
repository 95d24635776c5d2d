//! `generation`: the artifact does not fall silent, into loops or out of words where its reference speaks.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::stats::loop_period;
use crate::subject::{Answer, Generated};

/// Greedy texts of the artifact beside those of its reference, on every prompt. Refuted where the artifact breaks down
/// on more than a share of the prompts on which the reference does not.
///
/// Two sound conversions part ways after a few greedy tokens, and a small model loops now and then: so a single loop is
/// no verdict, and equality is not asked for. What no encoding explains is silence, noise or a loop on most prompts.
pub struct Generation;

const PARAMS: &[Param] = &[Param {
    name: "max_share",
    doc: "most of the prompts, as a share, on which only the artifact may break down",
    default: Some(ParamDefault::Number(0.5)),
}];

impl Gate for Generation {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "generation", per_prompt: false, needs_backend: true, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "On most prompts that its reference continues soundly, the artifact neither falls silent nor loops nor garbles."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (limit, source) = trial.settings.number("max_share")?;
        let reference = trial.reference()?;
        let (mut sound, mut generated, mut broken, mut endless) = (0u64, 0u64, Vec::new(), 0u64);
        let (all_theirs, all_ours) = (trial.generate_all(reference)?, trial.generate_all(trial.subject)?);
        for ((name, _), (theirs, ours)) in
            trial.all_prompts()?.iter().zip(all_theirs.into_iter().zip(all_ours))
        {
            let (theirs, ours) = (theirs?, ours?);
            if breakdown(&theirs).is_some() {
                continue;
            }
            sound += 1;
            generated += ours.tokens.len() as u64;
            endless += u64::from(ended(&theirs, trial.tokens) && !ended(&ours, trial.tokens));
            if let Some(how) = breakdown(&ours) {
                broken.push((name, how, theirs, ours));
            }
        }
        if sound == 0 {
            let why =
                "the reference itself breaks down on every prompt: there is no sound text to compare with";
            return Err(Unable::NotApplicable(why.into()));
        }
        let mut evidence = Evidence::new();
        let share = broken.len() as f64 / sound as f64;
        evidence.hold("broken_share", share, "", sound, Bound::at_most(limit, source));
        evidence.note("generated", generated as f64, "tokens", sound);
        evidence.note("ran_on_past_the_reference", endless as f64, "prompts", sound);
        for (name, how, theirs, ours) in broken {
            evidence.find(name, how);
            evidence.tell(&format!("{name}\n  reference: {:?}\n  artifact:  {:?}", theirs.text, ours.text));
        }
        evidence.judge()
    }
}

/// How a text broke down; `None` for a sound one.
fn breakdown(generated: &Generated) -> Option<String> {
    if generated.tokens.is_empty() || generated.text.trim().is_empty() {
        return Some(format!("silent: {} tokens without a letter", generated.tokens.len()));
    }
    let characters = generated.text.chars().count();
    let garbled = generated.text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    if GARBLED_PARTS * garbled > characters {
        return Some(format!("garbled: {garbled} of {characters} characters are no UTF-8"));
    }
    // A short answer that ends by itself is none of a loop.
    let period = loop_period(&generated.tokens).filter(|_| generated.tokens.len() >= LONG_ENOUGH)?;
    Some(format!("loops: the last {} tokens repeat every {period}", generated.tokens.len().min(4 * period)))
}

/// A text is garbled where more than one character of so many is a replacement character.
const GARBLED_PARTS: usize = 5;

/// Fewer tokens show no loop.
const LONG_ENOUGH: usize = 8;

fn ended(generated: &Generated, tokens: usize) -> bool {
    generated.tokens.len() < tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;
    use std::collections::HashMap;

    fn judge(artifact: &FakeSubject) -> Answer<Judgement> {
        Bench::default().compare(&Generation, artifact, &FakeSubject::new("source"))
    }

    #[test]
    fn a_text_of_its_own_passes() {
        let judged = passes(judge(&FakeSubject::new("int8")));
        assert_eq!(judged.measurements[0].n, 2);
        let mut other = FakeSubject::new("int4");
        other.next.insert(2, 5);
        passes(judge(&other));
    }

    #[test]
    fn loops_and_silence_fail_and_are_shown() {
        let mut looping = FakeSubject::new("int4");
        looping.next = HashMap::from([(0, 1), (1, 2), (2, 2)]);
        let judged = fails(judge(&looping), "broken_share");
        assert!(judged.findings[0].detail.starts_with("loops"), "{:?}", judged.findings);
        assert!(judged.detail.contains("reference: \"bcd\""), "{}", judged.detail);
        let mut silent = FakeSubject::new("int4");
        silent.next.clear();
        assert!(fails(judge(&silent), "broken_share").findings[0].detail.starts_with("silent"));
    }

    #[test]
    fn a_reference_that_says_nothing_proves_nothing() {
        let mut silent = FakeSubject::new("source");
        silent.next.clear();
        let answer = Bench::default().compare(&Generation, &FakeSubject::new("int4"), &silent);
        assert!(matches!(answer, Err(Unable::NotApplicable(_))), "{answer:?}");
    }
}
