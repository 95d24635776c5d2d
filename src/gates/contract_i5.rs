//! `contract-i5`: the embedded tokenizer is the original's, and its ids survive text.

use super::evidence::Bound;
use super::hard_strings::HARD_STRINGS;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::Judgement;
use crate::subject::{Answer, SingleTokens, Subject, TokenizerFacts};
use std::collections::{BTreeMap, BTreeSet};

/// `encode(decode(ids)) = ids` on hard strings and prompts (a text with special tokens may come back otherwise, where
/// it does so in the original too: SentencePiece eats spaces around them); the same ids as the original's; for every single id the
/// same bytes, and the same ones that do not come back; settings, vocabulary, merge rules and chat template kept.
/// Refuted by one difference.
pub struct ContractI5;

const GATE_ID: &str = "F-CONTRACT-I5-001";

impl Gate for ContractI5 {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "contract-i5", per_prompt: false, needs_backend: false, against, params: &[] }
    }

    fn contract_id(&self) -> Option<&'static str> {
        Some(GATE_ID)
    }

    fn claim(&self) -> &'static str {
        "The embedded tokenizer gives the original's ids on any text, and ids that were decoded encode to themselves."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let original = trial.reference()?;
        let mut evidence = Evidence::new();
        let source = format!("{} I-5", trial.contract.format_source());
        facts(&*original.tokenizer()?, &*trial.subject.tokenizer()?, &source, &mut evidence);
        strings(trial, original, &source, &mut evidence)?;
        single(trial, &*original.single_tokens()?, &*trial.subject.single_tokens()?, &source, &mut evidence)?;
        if let Some(law) = trial.contract.invariant(GATE_ID) {
            evidence.tell(&law.headline());
        }
        evidence.judge()
    }
}

/// Hard strings and the playbook's prompts, through text and back, and against the original.
fn strings(trial: &Trial, original: &dyn Subject, source: &str, evidence: &mut Evidence) -> Answer<()> {
    let known = trial.subject.tokenizer()?;
    let special = |id: &u32| matches!(known.tokens.get(*id as usize), Some(Some((_, true))));
    let (mut not_back, mut excused, mut other_ids, mut n) = (0u64, 0u64, 0u64, 0u64);
    let prompts = trial.prompts.iter().map(|(_, text)| text.as_str());
    for text in HARD_STRINGS.iter().copied().chain(prompts) {
        let ids = trial.subject.encode(text, false)?;
        // Two tokenizers that say nothing of a text agree about nothing.
        n += u64::from(!ids.is_empty());
        let again = back(trial.subject, &ids)?;
        if again != ids {
            if ids.iter().any(special) && back(original, &ids)? == again {
                excused += 1;
            } else {
                not_back += 1;
                evidence.find(
                    format!("text {text:?}"),
                    format!("ids {} come back as {}", short(&ids), short(&again)),
                );
            }
        }
        for add_special in [false, true] {
            let expected = original.encode(text, add_special)?;
            let found = if add_special { trial.subject.encode(text, true)? } else { ids.clone() };
            if expected != found {
                other_ids += 1;
                let what = format!("the original gives {}, found {}", short(&expected), short(&found));
                evidence.find(format!("text {text:?}"), what);
                break;
            }
        }
    }
    evidence.hold("texts_not_back", not_back as f64, "texts", n, Bound::zero(source));
    evidence.hold("texts_with_other_ids", other_ids as f64, "texts", n, Bound::zero(source));
    if excused > 0 {
        evidence.note("texts_not_back_in_the_original_either", excused as f64, "texts", n);
    }
    Ok(())
}

/// The ids of the text of `ids`.
fn back(tokenizer: &dyn Subject, ids: &[u32]) -> Answer<Vec<u32>> {
    tokenizer.encode(&tokenizer.decode(ids, false)?, false)
}

/// Every single id: its bytes, and whether it comes back, as in the original.
fn single(
    trial: &Trial,
    theirs: &SingleTokens,
    ours: &SingleTokens,
    source: &str,
    evidence: &mut Evidence,
) -> Answer<()> {
    let n = theirs.tried.min(ours.tried);
    let bytes: Vec<usize> = (0..n as usize).filter(|&i| theirs.bytes.get(i) != ours.bytes.get(i)).collect();
    for &id in bytes.iter().take(3) {
        let show = |all: &[Vec<u8>]| {
            all.get(id).map_or("nothing".into(), |b| format!("{:?}", String::from_utf8_lossy(b)))
        };
        evidence.find(
            format!("token id {id}"),
            format!("bytes {} became {}", show(&theirs.bytes), show(&ours.bytes)),
        );
    }
    evidence.hold("token_bytes_different", bytes.len() as f64, "ids", n, Bound::zero(source));
    let set = |t: &SingleTokens| {
        t.not_back.iter().copied().filter(|id| u64::from(*id) < n).collect::<BTreeSet<u32>>()
    };
    let (expected, found) = (set(theirs), set(ours));
    let different: Vec<u32> = expected.symmetric_difference(&found).copied().collect();
    for &id in different.iter().take(3) {
        let token = trial.subject.decode(&[id], false)?;
        let (side, verb) =
            if found.contains(&id) { ("artifact", "original") } else { ("original", "artifact") };
        let what = format!("{token:?} does not come back in the {side}, but does in the {verb}");
        evidence.find(format!("token id {id}"), what);
    }
    evidence.hold("ids_back_differently", different.len() as f64, "ids", n, Bound::zero(source));
    evidence.note("ids_not_back", found.len() as f64, "ids", n);
    Ok(())
}

/// What the two tokenizers say of themselves.
fn facts(theirs: &TokenizerFacts, ours: &TokenizerFacts, source: &str, evidence: &mut Evidence) {
    let absent = "absent".to_owned();
    let (a, b): (&BTreeMap<_, _>, &BTreeMap<_, _>) = (&theirs.settings, &ours.settings);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut different = 0u64;
    for key in &keys {
        let (expected, found) = (a.get(*key).unwrap_or(&absent), b.get(*key).unwrap_or(&absent));
        if expected != found {
            different += 1;
            let what = format!("expected {expected:?}, found {found:?}");
            match cause_of(key) {
                Some(cause) => evidence.find_cause(format!("tokenizer {key}"), what, cause),
                None => evidence.find(format!("tokenizer {key}"), what),
            }
        }
    }
    evidence.hold("settings_different", different as f64, "settings", keys.len() as u64, Bound::zero(source));

    // One side may pad its vocabulary to the rows of the embedding; padding is no token.
    let len = theirs.tokens.len().max(ours.tokens.len());
    let at = |t: &TokenizerFacts, id: usize| t.tokens.get(id).cloned().flatten();
    let tokens: Vec<usize> = (0..len).filter(|&id| at(theirs, id) != at(ours, id)).collect();
    for &id in tokens.iter().take(3) {
        let what = format!("expected {}, found {}", shown(at(theirs, id)), shown(at(ours, id)));
        let cause = match (at(theirs, id), at(ours, id)) {
            (Some((a, special)), Some((b, other))) if a == b && special != other => "token-type",
            (Some(_), Some(_)) => "token-swapped",
            (None, _) | (_, None) => "vocabulary",
        };
        evidence.find_cause(format!("vocabulary entry {id}"), what, cause);
    }
    evidence.hold("vocabulary_different", tokens.len() as f64, "ids", len as u64, Bound::zero(source));

    // A vocabulary that merges by score has no rules; then the ids of the texts speak for it.
    if !theirs.merges.is_empty() && !ours.merges.is_empty() {
        let rules = theirs.merges.len().max(ours.merges.len());
        let wrong: Vec<usize> = (0..rules).filter(|&i| theirs.merges.get(i) != ours.merges.get(i)).collect();
        for &rank in wrong.iter().take(3) {
            let rule =
                |t: &TokenizerFacts| t.merges.get(rank).map_or("none".into(), |(l, r)| format!("`{l} {r}`"));
            evidence.find_cause(
                format!("merge rule {rank}"),
                format!("expected {}, found {}", rule(theirs), rule(ours)),
                "merges",
            );
        }
        evidence.hold(
            "merge_rules_different",
            wrong.len() as f64,
            "rules",
            rules as u64,
            Bound::zero(source),
        );
    }
}

/// The id of the mistake that leaves another value of this setting.
fn cause_of(setting: &str) -> Option<&'static str> {
    Some(match setting {
        "add_bos" | "bos" => "bos",
        "add_eos" | "eos" | "stop ids" => "eos",
        "add_space_prefix" | "model" => "pre-tokenizer",
        "chat_template" => "chat-template",
        _ => return None,
    })
}

fn shown(token: Option<(String, bool)>) -> String {
    match token {
        None => "padding".into(),
        Some((text, true)) => format!("special token {text:?}"),
        Some((text, false)) => format!("{text:?}"),
    }
}

fn short(ids: &[u32]) -> String {
    let shown: Vec<String> = ids.iter().take(12).map(u32::to_string).collect();
    format!("[{}{}]", shown.join(", "), if ids.len() > 12 { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    fn judge(artifact: &FakeSubject) -> Answer<Judgement> {
        Bench::default().compare(&ContractI5, artifact, &FakeSubject::new("source"))
    }

    #[test]
    fn the_original_s_tokenizer_passes() {
        let judged = passes(judge(&FakeSubject::new("apr")));
        let texts = judged.measurements.iter().find(|m| m.metric == "texts_not_back").unwrap();
        assert_eq!(texts.n, HARD_STRINGS.len() as u64 + 2);
    }

    #[test]
    fn one_merge_rule_one_setting_one_token_are_named() {
        let mut artifact = FakeSubject::new("apr");
        artifact.tokenizer.merges.swap(0, 1);
        assert_eq!(fails(judge(&artifact), "merge_rules_different").findings[0].subject, "merge rule 0");
        let mut artifact = FakeSubject::new("apr");
        artifact.tokenizer.settings.insert("add_bos".into(), "true".into());
        assert_eq!(fails(judge(&artifact), "settings_different").findings[0].subject, "tokenizer add_bos");
        let mut artifact = FakeSubject::new("apr");
        artifact.tokenizer.tokens[8] = Some(("$".into(), false));
        assert!(fails(judge(&artifact), "vocabulary_different").findings[0].detail.contains("special token"));
    }

    #[test]
    fn padding_of_the_vocabulary_is_no_difference() {
        let mut artifact = FakeSubject::new("apr");
        artifact.tokenizer.tokens.extend([None, None]);
        passes(judge(&artifact));
    }

    #[test]
    fn other_ids_on_a_text_fail() {
        let mut artifact = FakeSubject::new("apr");
        artifact.vocabulary.swap(0, 1);
        fails(judge(&artifact), "texts_with_other_ids");
    }

    #[test]
    fn an_id_that_no_longer_comes_back_fails_and_so_do_lost_bytes() {
        let sound = FakeSubject::new("source").single_tokens().unwrap();
        let mut artifact = FakeSubject::new("apr");
        artifact.single_tokens = Some(SingleTokens { not_back: vec![3], ..(*sound).clone() });
        fails(judge(&artifact), "ids_back_differently");
        let mut lost = (*sound).clone();
        lost.bytes[2].clear();
        artifact.single_tokens = Some(lost);
        fails(judge(&artifact), "token_bytes_different");
    }

    #[test]
    fn the_corpus_has_no_duplicates() {
        let unique: BTreeSet<_> = HARD_STRINGS.iter().collect();
        assert_eq!(unique.len(), HARD_STRINGS.len());
    }
}
