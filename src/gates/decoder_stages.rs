//! `decoder-stages`: every stage of the decoder has what it needs.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::Judgement;
use crate::subject::Answer;

/// The stages of `check`, from the tokenizer to the sampler. Refuted by one that is not sound, and by a check that
/// looked at too few.
pub struct DecoderStages;

const PARAMS: &[Param] = &[Param {
    name: "min_stages",
    doc: "stages that must have been judged",
    default: Some(ParamDefault::Number(10.0)),
}];

impl Gate for DecoderStages {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "decoder-stages", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "All stages of the decoder, from tokenizer to sampler, find their tensors and settings sound."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        // Which stages there are is the family's to say.
        trial.subject.infers()?;
        let checked = trial.subject.problems()?;
        let (min_stages, source) = trial.settings.number("min_stages")?;
        let n = checked.stages.len() as u64;
        let mut evidence = Evidence::new();
        let failed = checked.stages.iter().filter(|(_, sound, _)| !sound);
        failed.clone().for_each(|(name, _, details)| evidence.find(name, details));
        evidence.hold("stages_failed", failed.count() as f64, "", n, Bound::zero("family contract"));
        evidence.hold("stages_judged", n as f64, "", n, Bound::at_least(min_stages, source));
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
    fn ten_sound_stages_pass() {
        passes(Bench::default().judge(&DecoderStages, &FakeSubject::new("apr"), None));
    }

    #[test]
    fn one_unsound_stage_fails_where_the_original_let_three_go() {
        let mut broken = FakeSubject::new("apr");
        broken.stages[3] = ("Q/K/V Projection".into(), false, "k is missing".into());
        let judged = fails(Bench::default().judge(&DecoderStages, &broken, None), "stages_failed");
        assert_eq!(judged.findings[0].subject, "Q/K/V Projection");
    }

    #[test]
    fn a_check_that_skips_stages_fails_and_one_of_none_is_no_check() {
        let mut short = FakeSubject::new("apr");
        short.stages.truncate(7);
        fails(Bench::default().judge(&DecoderStages, &short, None), "stages_judged");
        short.stages.clear();
        assert!(matches!(Bench::default().judge(&DecoderStages, &short, None), Err(Unable::Vacuous(_))));
    }

    #[test]
    fn an_unknown_family_has_no_stages_to_judge() {
        let mut stranger = FakeSubject::new("gguf");
        stranger.unknown_family = Some("mamba".into());
        let answer = Bench::default().judge(&DecoderStages, &stranger, None);
        assert!(matches!(answer, Err(Unable::UnknownFamily(why)) if why.contains("mamba")));
    }
}
