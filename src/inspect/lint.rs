//! Lint: what a file's readers stumble over though nothing in it is broken. Every rule has an id, a severity, and
//! says for each place what is odd and what to do now.

mod rules;

use super::view::View;
use crate::formats::Checkpoint;
use crate::models::{self, ModelConfig};
use crate::tokenizer::TokenizerSpec;
use serde::Serialize;

pub use rules::RULES;

/// Every issue of `checkpoint`, rule by rule. `view` is its weights, where they could be bound.
pub fn lint(checkpoint: &Checkpoint, view: Option<&View>) -> Vec<Issue> {
    let config = models::config(checkpoint).ok();
    let tokenizer = TokenizerSpec::from_checkpoint(checkpoint).ok();
    let file = File { checkpoint, view, config: config.as_ref(), tokenizer: tokenizer.as_ref() };
    let mut issues = Vec::new();
    for rule in RULES {
        let mut say = |at: String, what: String| {
            issues.push(Issue { id: rule.id, severity: rule.severity, at, what, now: rule.now });
        };
        (rule.judge)(&file, &mut say);
    }
    issues
}

/// One rule.
pub struct Rule {
    /// `tied-head-stored-twice`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it looks for, in a sentence.
    pub doc: &'static str,
    /// What to do about an issue.
    pub now: &'static str,
    /// Tells every issue: where and what.
    judge: fn(&File, &mut dyn FnMut(String, String)),
}

/// How bad an issue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs somebody something.
    Warn,
    /// A reader refuses the file or reads it wrongly.
    Error,
}

/// An issue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Issue {
    /// The rule's.
    pub id: &'static str,
    /// The rule's.
    #[serde(rename = "level")]
    pub severity: Severity,
    /// A tensor, a key, or the file.
    #[serde(rename = "where")]
    pub at: String,
    /// What is odd.
    #[serde(rename = "message")]
    pub what: String,
    /// What to do now.
    #[serde(rename = "suggestion")]
    pub now: &'static str,
}

/// What rules look at. What could not be read is none: `check` tells why.
struct File<'a> {
    checkpoint: &'a Checkpoint,
    view: Option<&'a View>,
    config: Option<&'a ModelConfig>,
    tokenizer: Option<&'a TokenizerSpec>,
}

#[cfg(test)]
mod tests {
    use super::super::view;
    use super::*;
    use crate::formats::{Container, GgufValue};
    use crate::models::fixture::{Tiny, checkpoint, tensor, with_tensors};
    use crate::tensor::DType;
    use std::collections::BTreeSet;

    fn ids(file: &Checkpoint) -> BTreeSet<&'static str> {
        let seen = view(file).ok();
        lint(file, seen.as_ref()).into_iter().map(|issue| issue.id).collect()
    }

    fn with_key(file: &Checkpoint, key: &str, value: GgufValue) -> Checkpoint {
        let Container::Gguf(header) = &file.container else { panic!("a GGUF") };
        let mut header = header.clone();
        header.metadata.push((key.to_owned(), value));
        checkpoint(Container::Gguf(header), file.tensors().to_vec())
    }

    fn text(value: &str) -> GgufValue {
        GgufValue::String(value.to_owned())
    }

    #[test]
    fn ids_are_unique_and_every_rule_says_what_to_do() {
        let ids: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
        assert!(RULES.iter().all(|rule| rule.doc.ends_with('.') && rule.now.len() > 10));
    }

    #[test]
    fn metadata_that_is_there_is_not_missed() {
        let bare = Tiny::new("llama").gguf(DType::F32);
        assert!(ids(&bare).is_superset(&BTreeSet::from(["license-missing", "tokenizer-missing"])));
        let told = with_key(&bare, "general.license", text("MIT"));
        assert!(!ids(&told).contains("license-missing"));
        assert!(ids(&with_key(&bare, "general.license", text(" "))).contains("license-missing"));
        let named = ids(&with_key(&bare, "general.name", text("tiny")));
        assert!(!named.contains("name-missing") && !named.contains("unknown-key"));
    }

    #[test]
    fn a_key_that_no_reader_knows_is_named() {
        let odd = with_key(&Tiny::new("llama").gguf(DType::F32), "lama.block_count", GgufValue::U32(2));
        let seen = view(&odd).ok();
        let issues = lint(&odd, seen.as_ref());
        let issue = issues.iter().find(|i| i.id == "unknown-key").expect("found");
        assert!(issue.at.contains("lama.block_count"), "{issue:?}");
    }

    #[test]
    fn a_tied_head_stored_twice_is_found_in_both_containers() {
        for sound in [Tiny::new("qwen2").hf(DType::F32), Tiny::new("qwen2").gguf(DType::F32)] {
            assert!(!ids(&sound).contains("tied-head-stored-twice"));
            let (embedding, head) = match sound.get("token_embd.weight") {
                Some(t) => (t.clone(), "output.weight"),
                None => {
                    (sound.get("model.embed_tokens.weight").expect("an embedding").clone(), "lm_head.weight")
                }
            };
            let doubled = with_tensors(&sound, |tensors| {
                tensors.push(crate::formats::NamedTensor { name: head.into(), ..embedding });
            });
            assert!(ids(&doubled).contains("tied-head-stored-twice"), "{head}");
        }
    }

    #[test]
    fn a_norm_in_blocks_and_an_unaligned_tensor_are_found() {
        let sound = Tiny::new("llama").gguf(DType::F32);
        assert!(ids(&sound).is_disjoint(&BTreeSet::from(["vector-in-blocks", "unaligned-data"])));
        let odd = with_tensors(&sound, |tensors| {
            let norm = tensors.iter_mut().find(|t| t.name == "output_norm.weight").expect("a norm");
            *norm = tensor("output_norm.weight", DType::Q8_0, [64].into(), &[1.0; 64]);
            norm.offset = 17;
        });
        assert!(ids(&odd).is_superset(&BTreeSet::from(["vector-in-blocks", "unaligned-data"])));
    }

    #[test]
    fn an_unpadded_vocabulary_is_worth_knowing() {
        // The fixture's vocabulary has 40 entries.
        assert!(ids(&Tiny::new("llama").hf(DType::F32)).contains("vocabulary-unpadded"));
    }
}
