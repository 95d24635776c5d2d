//! `perplexity`: the artifact predicts a text no worse than the model's ceiling.

use super::evidence::Bound;
use super::trial::usage;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::Judgement;
use crate::subject::{Answer, Chunking};

/// Perplexity on the model's text. Refuted by a value that is not below the ceiling.
pub struct Perplexity;

pub(super) const CTX: Param = Param {
    name: "ctx",
    doc: "tokens of a chunk, of which the second half is scored; 0 scores the whole text in one context",
    default: Some(ParamDefault::Number(512.0)),
};

pub(super) const CHUNKS: Param =
    Param { name: "chunks", doc: "chunks of the text, at most, at least 2; default: all", default: None };

/// What the settings `ctx` and `chunks` say.
pub(super) fn chunking(trial: &Trial) -> Answer<Chunking> {
    let chunks = trial.settings.given_number("chunks").map_or(usize::MAX, |(chunks, _)| chunks as usize);
    if chunks < 2 {
        return Err(usage(format!("{chunks} chunks give no perplexity: use at least 2")));
    }
    Ok(Chunking { ctx: trial.settings.number("ctx")?.0 as usize, chunks })
}

const PARAMS: &[Param] = &[
    Param {
        name: "ceiling",
        doc: "perplexity must be below; default: the model's perplexity_ceiling",
        default: None,
    },
    CTX,
    CHUNKS,
    Param {
        name: "min_tokens",
        doc: "with fewer scored tokens the case is inconclusive",
        default: Some(ParamDefault::Number(1.0)),
    },
];

impl Gate for Perplexity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "perplexity", per_prompt: false, needs_backend: true, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "Perplexity on the model's text is below its ceiling."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let given = trial.settings.given_number("ceiling").or_else(|| trial.references.perplexity_ceiling());
        let (ceiling, source) =
            given.ok_or_else(|| usage("neither the gate nor the model gives a perplexity ceiling".into()))?;
        let (min_tokens, min_source) = trial.settings.number("min_tokens")?;
        let (text, text_source) = trial.references.text()?;
        let figure = trial.subject.perplexity(&text, chunking(trial)?)?;
        let mut evidence = Evidence::new();
        evidence.hold(
            "perplexity",
            figure.perplexity,
            "",
            figure.tokens_scored,
            Bound::below(ceiling, source),
        );
        if (figure.tokens_scored as f64) < min_tokens {
            let scored = figure.tokens_scored;
            evidence.too_few(format!(
                "measured over {scored} tokens, limit >= {min_tokens} (source {min_source})"
            ));
        }
        evidence.tell(&format!("text: {text_source}"));
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Verdict;
    use crate::subject::fake::FakeSubject;

    #[test]
    fn below_the_model_s_ceiling_passes() {
        let judged = passes(Bench::default().judge(&Perplexity, &FakeSubject::new("int8"), None));
        assert_eq!(judged.measurements[0].limit.as_ref().unwrap().source, "playbook.yaml:3");
    }

    #[test]
    fn the_ceiling_itself_and_nan_fail() {
        for value in [7.0, f64::NAN, f64::INFINITY] {
            let mut subject = FakeSubject::new("int4");
            subject.perplexity = value;
            fails(Bench::default().limit("ceiling", 7.0).judge(&Perplexity, &subject, None), "perplexity");
        }
    }

    #[test]
    fn as_many_chunks_are_scored_as_asked_for_and_one_is_refused() {
        let scored = |chunks: f64| {
            let bench = Bench::default().limit("ctx", 4.0).limit("chunks", chunks);
            bench.judge(&Perplexity, &FakeSubject::new("int8"), None).map(|judged| judged.measurements[0].n)
        };
        assert_eq!(scored(2.0).unwrap(), 8);
        assert!(scored(1.0).is_err());
    }

    #[test]
    fn too_short_a_text_is_inconclusive_and_no_ceiling_is_refused() {
        let bench = Bench::default().limit("min_tokens", 1000.0);
        let judged = bench.judge(&Perplexity, &FakeSubject::new("int8"), None).unwrap();
        assert!(matches!(judged.verdict, Verdict::Inconclusive { .. }), "{judged:?}");
        let mut bench = Bench::default();
        bench.shelf.ceiling = None;
        assert!(bench.judge(&Perplexity, &FakeSubject::new("int8"), None).is_err());
    }
}
