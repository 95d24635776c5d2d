//! The tokenizer in GGUF metadata: `tokenizer.ggml.*` and `tokenizer.chat_template`.
//!
//! Two keys are this program's own, and other readers ignore them: `tokenizer.ggml.eos_token_ids` (every id
//! that ends a generation) and `tokenizer.ggml.normalizer.nfc`. With them a spec survives GGUF whole.

use super::stored::{Stored, distinct_texts, join_merge};
use super::{TokenizerModel, TokenizerSpec, special};
use crate::error::{Error, Kind, Result};
use crate::formats::{GgufArray, GgufHeader, GgufValue};

impl TokenizerSpec {
    /// Reads `tokenizer.*`, with llama.cpp's defaults for what is not said.
    ///
    /// # Errors
    /// Malformed: a key of another type, tables of unequal length. Unsupported: a tokenizer model other than
    /// `gpt2` and `llama`, an unknown pre-tokenizer.
    pub fn from_gguf(header: &GgufHeader) -> Result<TokenizerSpec> {
        let keys = Keys(header);
        let stored = Stored {
            model: keys
                .string("model")?
                .ok_or_else(|| Error::new(Kind::Malformed, "tokenizer.ggml.model", "missing"))?,
            pre: keys.string("pre")?.filter(|p| !p.is_empty()),
            tokens: keys
                .strings("tokens")?
                .ok_or_else(|| Error::new(Kind::Malformed, "tokenizer.ggml.tokens", "missing"))?,
            scores: keys.scores()?,
            kinds: keys.integers("token_type")?,
            merges: keys.strings("merges")?,
            bos: keys.id("bos_token_id")?,
            eos: keys.id("eos_token_id")?,
            eot: keys.id("eot_token_id")?,
            eom: keys.id("eom_token_id")?,
            unk: keys.id("unknown_token_id")?,
            pad: keys.id("padding_token_id")?,
            stops: keys.ids("eos_token_ids")?,
            add_bos: keys.flag("add_bos_token")?,
            add_eos: keys.flag("add_eos_token")?,
            add_space_prefix: keys.flag("add_space_prefix")?,
            nfc: keys.flag("normalizer.nfc")?,
            chat_template: match keys.value("tokenizer.chat_template") {
                None => None,
                Some(GgufValue::String(template)) => Some(template.clone()),
                Some(other) => return Err(mistyped("tokenizer.chat_template", "a string", other)),
            },
        };
        stored.into_spec()
    }

    /// The metadata of a GGUF, in the order that llama.cpp's converter writes it.
    pub fn to_gguf(&self) -> Vec<(String, GgufValue)> {
        let (model, pre) = match &self.model {
            TokenizerModel::ByteLevelBpe { pre } => ("gpt2", pre.as_str()),
            TokenizerModel::SentencePiece => ("llama", "default"),
        };
        let mut out = Vec::new();
        let mut put = |key: &str, value: GgufValue| out.push((format!("tokenizer.ggml.{key}"), value));
        put("model", GgufValue::String(model.to_owned()));
        put("pre", GgufValue::String(pre.to_owned()));
        put("tokens", GgufValue::Array(GgufArray::String(distinct_texts(&self.tokens))));
        if self.model == TokenizerModel::SentencePiece {
            put("scores", GgufValue::Array(GgufArray::F32(self.tokens.iter().map(|t| t.score).collect())));
        }
        put(
            "token_type",
            GgufValue::Array(GgufArray::I32(self.tokens.iter().map(|t| t.kind.to_ggml()).collect())),
        );
        if self.model != TokenizerModel::SentencePiece {
            put("merges", GgufValue::Array(GgufArray::String(self.merges.iter().map(join_merge).collect())));
        }
        // llama.cpp knows most ends by their text; the others it has to be told, and has two keys for it.
        let known = special::end_of_generation(&self.tokens);
        let mut unknown = self.more_eos.iter().copied().filter(|id| !known.contains(id));
        let ids = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", unknown.next()),
            ("eom_token_id", unknown.next()),
            ("unknown_token_id", self.unk),
            ("padding_token_id", self.pad),
        ];
        for (key, id) in ids {
            if let Some(id) = id {
                put(key, GgufValue::U32(id));
            }
        }
        put("eos_token_ids", GgufValue::Array(GgufArray::U32(self.stop_ids())));
        put("add_bos_token", GgufValue::Bool(self.add_bos));
        put("add_eos_token", GgufValue::Bool(self.add_eos));
        put("add_space_prefix", GgufValue::Bool(self.add_space_prefix));
        if self.nfc {
            put("normalizer.nfc", GgufValue::Bool(true));
        }
        if let Some(template) = &self.chat_template {
            out.push(("tokenizer.chat_template".to_owned(), GgufValue::String(template.clone())));
        }
        out
    }
}

/// Typed access to `tokenizer.ggml.<key>`.
struct Keys<'h>(&'h GgufHeader);

impl Keys<'_> {
    fn value(&self, key: &str) -> Option<&GgufValue> {
        self.0.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&GgufValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let key = format!("tokenizer.ggml.{key}");
        self.value(&key).map(|value| read(value).ok_or_else(|| mistyped(&key, expected, value))).transpose()
    }

    fn string(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a string", |v| match v {
            GgufValue::String(s) => Some(s.clone()),
            _ => None,
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "a bool", |v| match v {
            GgufValue::Bool(b) => Some(*b),
            _ => None,
        })
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "a token id", |v| u32::try_from(integer(v)?).ok())
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.read(key, "an array of strings", |v| match v {
            GgufValue::Array(GgufArray::String(s)) => Some(s.clone()),
            _ => None,
        })
    }

    fn scores(&self) -> Result<Option<Vec<f32>>> {
        self.read("scores", "an array of F32 or I32", |v| match v {
            GgufValue::Array(GgufArray::F32(s)) => Some(s.clone()),
            #[allow(clippy::cast_precision_loss)] // as llama.cpp does
            GgufValue::Array(GgufArray::I32(s)) => Some(s.iter().map(|&x| x as f32).collect()),
            _ => None,
        })
    }

    fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.read(key, "an array of integers", |v| match v {
            GgufValue::Array(array) => integers(array),
            _ => None,
        })
    }

    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.read(key, "an array of token ids", |v| match v {
            GgufValue::Array(array) => integers(array)?.into_iter().map(|i| u32::try_from(i).ok()).collect(),
            _ => None,
        })
    }
}

fn integer(value: &GgufValue) -> Option<i64> {
    Some(match *value {
        GgufValue::U8(x) => x.into(),
        GgufValue::I8(x) => x.into(),
        GgufValue::U16(x) => x.into(),
        GgufValue::I16(x) => x.into(),
        GgufValue::U32(x) => x.into(),
        GgufValue::I32(x) => x.into(),
        GgufValue::U64(x) => i64::try_from(x).ok()?,
        GgufValue::I64(x) => x,
        GgufValue::F32(_)
        | GgufValue::F64(_)
        | GgufValue::Bool(_)
        | GgufValue::String(_)
        | GgufValue::Array(_) => return None,
    })
}

fn integers(array: &GgufArray) -> Option<Vec<i64>> {
    Some(match array {
        GgufArray::U8(x) => x.iter().map(|&x| x.into()).collect(),
        GgufArray::I8(x) => x.iter().map(|&x| x.into()).collect(),
        GgufArray::U16(x) => x.iter().map(|&x| x.into()).collect(),
        GgufArray::I16(x) => x.iter().map(|&x| x.into()).collect(),
        GgufArray::U32(x) => x.iter().map(|&x| x.into()).collect(),
        GgufArray::I32(x) => x.iter().map(|&x| x.into()).collect(),
        GgufArray::U64(x) => x.iter().map(|&x| i64::try_from(x).ok()).collect::<Option<_>>()?,
        GgufArray::I64(x) => x.clone(),
        GgufArray::F32(_)
        | GgufArray::F64(_)
        | GgufArray::Bool(_)
        | GgufArray::String(_)
        | GgufArray::Array(_) => return None,
    })
}

fn mistyped(key: &str, expected: &str, found: &GgufValue) -> Error {
    let mut shown = format!("{found:?}");
    if let Some((cut, _)) = shown.char_indices().nth(40) {
        shown.truncate(cut);
        shown.push('…');
    }
    Error::new(Kind::Malformed, key, format!("expected {expected}, found {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(pairs: &[(&str, GgufValue)]) -> GgufHeader {
        let key = |k: &str| if k.contains('.') { k.to_owned() } else { format!("tokenizer.ggml.{k}") };
        GgufHeader {
            version: 3,
            alignment: 32,
            metadata: pairs.iter().map(|(k, v)| (key(k), v.clone())).collect(),
        }
    }

    fn text(text: &str) -> GgufValue {
        GgufValue::String(text.to_owned())
    }

    fn texts(texts: &[&str]) -> GgufValue {
        GgufValue::Array(GgufArray::String(texts.iter().map(|t| t.to_string()).collect()))
    }

    fn base() -> Vec<(&'static str, GgufValue)> {
        vec![
            ("model", text("gpt2")),
            ("pre", text("qwen2")),
            ("tokens", texts(&["a", "b", "ab", "<|im_end|>", "<stop>"])),
            ("merges", texts(&["a b"])),
        ]
    }

    #[test]
    fn ends_are_those_that_llama_cpp_stops_at() {
        let mut pairs = base();
        pairs.extend([("eos_token_id", GgufValue::U32(3)), ("eot_token_id", GgufValue::I32(4))]);
        let spec = TokenizerSpec::from_gguf(&header(&pairs)).expect("is read");
        assert_eq!(spec.stop_ids(), [3, 4]);
        let written = spec.to_gguf();
        let value = |key: &str| written.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        // Known by its text, so only the other end needs a key.
        assert_eq!(value("tokenizer.ggml.eot_token_id"), Some(GgufValue::U32(4)));
        assert_eq!(value("tokenizer.ggml.eom_token_id"), None);
        assert_eq!(value("tokenizer.ggml.pre"), Some(text("qwen2")));
    }

    #[test]
    fn a_list_of_ends_is_taken_as_it_is() {
        let mut pairs = base();
        pairs.extend([
            ("eos_token_id", GgufValue::U32(4)),
            ("eos_token_ids", GgufValue::Array(GgufArray::U32(vec![4]))),
        ]);
        assert_eq!(TokenizerSpec::from_gguf(&header(&pairs)).expect("is read").stop_ids(), [4]);
    }

    #[test]
    fn faults_name_their_key() {
        let cases: [(&str, GgufValue, &str); 5] = [
            ("tokens", GgufValue::U32(7), "tokenizer.ggml.tokens: expected an array of strings"),
            ("pre", text("qwen9"), "`qwen9`"),
            ("model", text("bert"), "`bert`"),
            ("merges", texts(&["ab"]), "merge 0"),
            ("tokenizer.chat_template", GgufValue::Bool(true), "tokenizer.chat_template"),
        ];
        for (key, value, said) in cases {
            let mut pairs = base();
            pairs.retain(|(k, _)| *k != key);
            pairs.push((key, value));
            let error = TokenizerSpec::from_gguf(&header(&pairs)).expect_err("is refused");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(
            TokenizerSpec::from_gguf(&header(&[]))
                .expect_err("is refused")
                .to_string()
                .contains("tokenizer.ggml.model")
        );
    }
}
