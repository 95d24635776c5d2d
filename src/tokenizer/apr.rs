//! The tokenizer in APR metadata: flattened `tokenizer.*` keys, one spelling per field, sorted.
//!
//! aprender's own files say less: token types, the list of ends and the flags are this program's, under names
//! in the same style. Where types are missing, special tokens are known by their look and by their role.

use super::stored::{Stored, join_merge};
use super::{TokenizerModel, TokenizerSpec};
use crate::error::{Error, Kind, Result};
use crate::formats::AprHeader;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

impl TokenizerSpec {
    /// Reads the embedded tokenizer; both `tokenizer.model` and `tokenizer.model_type` name the algorithm.
    ///
    /// # Errors
    /// Malformed: no vocabulary, or a key of another type. Unsupported: as
    /// [`from_gguf`](TokenizerSpec::from_gguf).
    pub fn from_apr(header: &AprHeader) -> Result<TokenizerSpec> {
        let keys = Keys(&header.metadata);
        let tokens = keys.strings("vocabulary")?.ok_or_else(|| {
            Error::new(Kind::Malformed, "tokenizer.vocabulary", "missing")
                .hint("the file carries no tokenizer; convert it again from its source")
        })?;
        let model = keys.string("model")?.or(keys.string("model_type")?).unwrap_or_else(|| "gpt2".to_owned());
        let model = match model.to_ascii_lowercase().as_str() {
            "bpe" | "gpt2" => "gpt2".to_owned(),
            "llama" | "sentencepiece" | "spm" => "llama".to_owned(),
            _ => model,
        };
        let (bos, eos) = (keys.id("bos_token_id")?, keys.id("eos_token_id")?);
        let (unk, pad) = (keys.id("unknown_token_id")?, keys.id("padding_token_id")?);
        let kinds = match keys.integers("token_type")? {
            Some(kinds) => kinds,
            None => guessed_kinds(&tokens, &model, &[bos, eos, pad], unk),
        };
        let stored = Stored {
            model,
            pre: keys.string("pre_type")?,
            kinds: Some(kinds),
            scores: keys.floats("scores")?,
            merges: keys.strings("merges")?,
            bos,
            eos,
            eot: None,
            eom: None,
            unk,
            pad,
            stops: keys.ids("eos_token_ids")?,
            add_bos: keys.flag("add_bos_token")?,
            add_eos: keys.flag("add_eos_token")?,
            add_space_prefix: keys.flag("add_space_prefix")?,
            nfc: keys.flag("normalizer_nfc")?,
            chat_template: keys
                .string("chat_template")?
                .or_else(|| header.metadata.get("chat_template")?.as_str().map(str::to_owned)),
            tokens,
        };
        stored.into_spec()
    }

    /// The `tokenizer.*` metadata of an APR file, sorted by key.
    pub fn to_apr(&self) -> Map<String, Json> {
        let (model, pre) = match &self.model {
            TokenizerModel::ByteLevelBpe { pre } => ("gpt2", pre.as_str()),
            TokenizerModel::SentencePiece => ("llama", "default"),
        };
        let mut out = BTreeMap::new();
        let mut put = |key: &str, value: Json| out.insert(format!("tokenizer.{key}"), value);
        put("model", json!(model));
        put("pre_type", json!(pre));
        put("vocabulary", self.tokens.iter().map(|t| t.text.as_str()).collect());
        put("vocab_size", json!(self.tokens.len()));
        put("token_type", self.tokens.iter().map(|t| t.kind.to_ggml()).collect());
        if self.model == TokenizerModel::SentencePiece {
            put("scores", self.tokens.iter().map(|t| json!(t.score)).collect());
        } else {
            put("merges", self.merges.iter().map(join_merge).collect());
        }
        for (key, id) in [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("unknown_token_id", self.unk),
            ("padding_token_id", self.pad),
        ] {
            if let Some(id) = id {
                put(key, json!(id));
            }
        }
        put("eos_token_ids", json!(self.stop_ids()));
        put("add_bos_token", json!(self.add_bos));
        put("add_eos_token", json!(self.add_eos));
        put("add_space_prefix", json!(self.add_space_prefix));
        if self.nfc {
            put("normalizer_nfc", json!(true));
        }
        if let Some(template) = &self.chat_template {
            put("chat_template", json!(template));
        }
        out.into_iter().collect()
    }
}

/// Types for a file that has none: bytes by their form, control tokens by their role or by looking like
/// `<|…|>`, the unknown token by its role.
fn guessed_kinds(tokens: &[String], model: &str, roles: &[Option<u32>], unk: Option<u32>) -> Vec<i64> {
    let kind = |(id, text): (u32, &String)| {
        let is_byte = model == "llama" && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let looks_special = text.starts_with("<|") && text.ends_with("|>");
        if model == "llama" && unk.unwrap_or(0) == id {
            2
        } else if looks_special
            || roles.contains(&Some(id))
            || (model == "llama" && ["<s>", "</s>"].contains(&text.as_str()))
        {
            3
        } else if is_byte {
            6
        } else {
            1
        }
    };
    (0u32..).zip(tokens).map(kind).collect()
}

/// Typed access to `tokenizer.<key>`; an explicit null is an absent key, as older writers mean it.
struct Keys<'m>(&'m Map<String, Json>);

impl Keys<'_> {
    fn read<T>(&self, key: &str, expected: &str, read: impl Fn(&Json) -> Option<T>) -> Result<Option<T>> {
        let key = format!("tokenizer.{key}");
        let value = self.0.get(&key).filter(|v| !v.is_null());
        value
            .map(|v| read(v).ok_or_else(|| Error::new(Kind::Malformed, &key, format!("expected {expected}"))))
            .transpose()
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        item: impl Fn(&Json) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        self.read(key, expected, |v| v.as_array()?.iter().map(&item).collect())
    }

    fn string(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Json::as_bool)
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "a token id", id)
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.list(key, "a list of strings", |v| v.as_str().map(str::to_owned))
    }

    fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.list(key, "a list of integers", Json::as_i64)
    }

    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.list(key, "a list of token ids", id)
    }

    fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        #[allow(clippy::cast_possible_truncation)] // scores are F32 in every source
        self.list(key, "a list of numbers", |v| v.as_f64().map(|x| x as f32))
    }
}

fn id(value: &Json) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use super::super::TokenKind;
    use super::*;

    fn header(metadata: Json) -> AprHeader {
        AprHeader {
            version: (2, 0),
            flags: 0,
            metadata: metadata.as_object().cloned().unwrap_or_default(),
            footer: None,
        }
    }

    #[test]
    fn a_file_of_aprender_is_read_under_either_name_of_the_model() {
        for key in ["tokenizer.model", "tokenizer.model_type"] {
            let spec = TokenizerSpec::from_apr(&header(json!({
                key: "BPE", "tokenizer.pre_type": "qwen2", "tokenizer.vocabulary": ["a", "b", "ab", "<|im_end|>"], "tokenizer.merges": ["a b"],
                "tokenizer.eos_token_id": 3, "tokenizer.bos_token_id": null, "chat_template": "T",
            })));
            let spec = spec.expect("is read");
            assert_eq!(spec.model, TokenizerModel::ByteLevelBpe { pre: "qwen2".to_owned() });
            assert_eq!((spec.eos, spec.bos, spec.tokens[3].kind), (Some(3), None, TokenKind::Control));
            assert_eq!(spec.chat_template.as_deref(), Some("T"));
        }
    }

    #[test]
    fn keys_are_sorted_and_said_once() {
        let spec = TokenizerSpec::from_apr(&header(json!({
            "tokenizer.model": "llama", "tokenizer.vocabulary": ["<unk>", "<s>", "</s>", "<0x41>", "a"], "tokenizer.scores": [0, 0, 0, 0, -0.1],
        })));
        let written = spec.expect("is read").to_apr();
        assert!(written.keys().is_sorted());
        assert!(written.contains_key("tokenizer.model") && !written.contains_key("tokenizer.model_type"));
        let again = TokenizerSpec::from_apr(&AprHeader { metadata: written.clone(), ..header(json!({})) })
            .expect("is read");
        assert_eq!(again.to_apr(), written);
        assert_eq!(again.tokens[3].kind, TokenKind::Byte);
    }

    #[test]
    fn faults_name_their_key() {
        let missing = TokenizerSpec::from_apr(&header(json!({}))).expect_err("is refused");
        assert!(missing.to_string().starts_with("tokenizer.vocabulary: missing"), "{missing}");
        let mistyped =
            TokenizerSpec::from_apr(&header(json!({ "tokenizer.vocabulary": [1] }))).expect_err("is refused");
        assert!(
            mistyped.to_string().contains("tokenizer.vocabulary: expected a list of strings"),
            "{mistyped}"
        );
    }
}
