//! The tokenizer of an HF folder: `tokenizer.json`, `tokenizer_config.json`, and what `config.json` and
//! `generation_config.json` say of special ids.
//!
//! `tokenizer.json` describes a pipeline of parts. Only pipelines that llama.cpp can follow are read; any
//! other part is an error that names it, so no conversion can change ids in silence.

mod config;
mod pipeline;
mod scores;
mod vocabulary;
mod write;

pub use write::HfTokenizerFiles;

use super::{TokenizerModel, TokenizerSpec};
use crate::error::{Error, Kind, Result};
use crate::formats::{HfFolder, json};
use config::Roles;
use serde_json::Value as Json;

impl TokenizerSpec {
    /// Reads the tokenizer files of an HF folder.
    ///
    /// Where transformers and llama.cpp differ, llama.cpp's way is taken, because the ids of a model must not
    /// depend on its container: input is not normalized to NFC, an end mark such as `</s>` is special though
    /// the file calls it ordinary, and SentencePiece joins by score, leftmost first among equals.
    ///
    /// # Errors
    /// Io: no `tokenizer.json`. Malformed: not JSON, or inconsistent. Unsupported: a part that is not read, by
    /// its name and its regular expression.
    pub fn from_hf(folder: &HfFolder) -> Result<TokenizerSpec> {
        let bytes = folder.tokenizer_json.as_deref().ok_or_else(|| {
            Error::new(Kind::Io, FILE, "missing")
                .hint("a folder with `tokenizer.model` alone has to be saved again with a fast tokenizer")
        })?;
        // Strictly: a token that stands twice in the vocabulary would lose one of its ids in silence.
        let json = Json::Object(json::object(FILE.as_ref(), "the file", bytes)?);
        let kind = pipeline::read(&json, folder)?;
        let roles = Roles::read(&json, folder)?;
        let unk_text = json["model"]["unk_token"].as_str();
        let mut tokens = vocabulary::tokens(&json, folder, kind.sentence_piece.then_some(unk_text))?;
        let merges = vocabulary::merges(&json)?;
        let (model, merges) = if kind.sentence_piece {
            scores::assign(&mut tokens, &merges)?;
            (TokenizerModel::SentencePiece, Vec::new())
        } else {
            (TokenizerModel::ByteLevelBpe { pre: kind.pre }, merges)
        };
        let ids: std::collections::HashMap<&str, u32> =
            (0u32..).zip(&tokens).map(|(id, t)| (t.text.as_str(), id)).collect();
        let ends = roles.ends(&ids)?;
        let (bos, unk) =
            (roles.bos(&ids)?, roles.id("unk_token", &ids)?.or_else(|| ids.get(unk_text?).copied()));
        let pad = roles.id("pad_token", &ids)?;
        let (add_bos, add_eos) = roles.template(bos, ends.eos, kind.sentence_piece)?;
        Ok(TokenizerSpec {
            model,
            merges,
            bos,
            eos: ends.eos,
            more_eos: ends.more,
            unk,
            pad,
            add_bos,
            add_eos,
            add_space_prefix: kind.space_prefix,
            nfc: kind.nfc,
            chat_template: roles.chat_template(),
            tokens,
        })
    }
}

const FILE: &str = "tokenizer.json";

fn malformed(what: impl Into<String>) -> Error {
    Error::new(Kind::Malformed, FILE, what)
}

fn unsupported(part: &str, what: impl Into<String>) -> Error {
    Error::unsupported(FILE, what).at(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{TokenKind, Tokenizer};
    use serde_json::{Map, json};

    fn folder(tokenizer: &Json, tokenizer_config: Json, config: Json) -> HfFolder {
        let object = |value: Json| value.as_object().cloned().unwrap_or_default();
        HfFolder {
            config: object(config),
            tokenizer_json: Some(tokenizer.to_string().into_bytes().into()),
            tokenizer_config: Some(object(tokenizer_config)),
            ..HfFolder::default()
        }
    }

    fn byte_level_json(pre_tokenizer: Json) -> Json {
        let vocab: Map<String, Json> =
            ["a", "b", "ab", "Ġ", "Ġab"].iter().enumerate().map(|(i, t)| (t.to_string(), json!(i))).collect();
        json!({
            "added_tokens": [{ "id": 5, "content": "<|end|>", "special": true }, { "id": 6, "content": "<tool>", "special": false }],
            "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": { "type": "ByteLevel" },
            "model": { "type": "BPE", "vocab": vocab, "merges": ["a b", ["Ġ", "ab"]] },
        })
    }

    fn gpt2_part() -> Json {
        json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": true })
    }

    fn read(json: &Json) -> Result<TokenizerSpec> {
        TokenizerSpec::from_hf(&folder(json, json!({}), json!({})))
    }

    fn refusal(json: &Json) -> String {
        let error = read(json).expect_err("is refused");
        assert_eq!(error.kind, Kind::Unsupported, "{error}");
        error.to_string()
    }

    #[test]
    fn pipelines_in_the_wild_are_known_by_their_structure() {
        let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
        let last = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
        let of = |parts: &[Json]| json!({ "type": "Sequence", "pretokenizers": parts });
        let qwen2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let llama3 = qwen2.replacen(r"|\p{N}|", r"|\p{N}{1,3}|", 1);
        let digits = json!({ "type": "Digits", "individual_digits": true });
        let cases = [
            (gpt2_part(), "gpt-2"),
            (of(&[digits.clone(), gpt2_part()]), "smollm"),
            (of(&[split(qwen2), last.clone()]), "qwen2"),
            (of(&[split(&llama3), last.clone()]), "dbrx"),
            (
                of(&[
                    json!({ "type": "Punctuation", "behavior": "Contiguous" }),
                    gpt2_part(),
                    split("[0-9][0-9][0-9]"),
                ]),
                "falcon",
            ),
            (
                of(&[
                    split("[\r\n]"),
                    split(r"\s?\p{L}+"),
                    split(r"\s?\p{P}+"),
                    split("[一-龥ࠀ-一가-퟿]+"),
                    digits,
                    last.clone(),
                ]),
                "deepseek-coder",
            ),
        ];
        for (part, name) in cases {
            let spec = read(&byte_level_json(part)).expect("is read");
            assert_eq!(spec.model, TokenizerModel::ByteLevelBpe { pre: name.to_owned() });
        }
        let mut json = byte_level_json(of(&[split(&llama3), last]));
        json["model"]["ignore_merges"] = json!(true);
        assert_eq!(
            read(&json).expect("is read").model,
            TokenizerModel::ByteLevelBpe { pre: "llama-bpe".to_owned() }
        );
    }

    #[test]
    fn the_models_type_tells_names_of_one_structure_apart() {
        let part = json!({ "type": "Sequence", "pretokenizers": [{ "type": "Digits", "individual_digits": true }, gpt2_part()] });
        let folder = folder(&byte_level_json(part), json!({}), json!({ "model_type": "starcoder2" }));
        let spec = TokenizerSpec::from_hf(&folder).expect("is read");
        assert_eq!(spec.model, TokenizerModel::ByteLevelBpe { pre: "starcoder".to_owned() });
    }

    #[test]
    fn roles_kinds_and_padding_are_read() {
        let json = byte_level_json(gpt2_part());
        let tokenizer_config = json!({
            "eos_token": { "content": "<|end|>" }, "pad_token": "<tool>", "bos_token": null, "add_bos_token": false,
            "chat_template": [{ "name": "tools", "template": "T" }, { "name": "default", "template": "D" }],
        });
        let mut folder = folder(&json, tokenizer_config, json!({ "vocab_size": 9, "bos_token_id": 1 }));
        folder.generation_config = json!({ "eos_token_id": [6, 5] }).as_object().cloned();
        let spec = TokenizerSpec::from_hf(&folder).expect("is read");
        assert_eq!(
            (spec.bos, spec.eos, spec.more_eos.as_slice(), spec.pad),
            (None, Some(5), &[6][..], Some(6))
        );
        assert_eq!(spec.chat_template.as_deref(), Some("D"));
        let kinds: Vec<(&str, TokenKind)> =
            spec.tokens[4..].iter().map(|t| (t.text.as_str(), t.kind)).collect();
        let (control, added, unused) = (TokenKind::Control, TokenKind::UserDefined, TokenKind::Unused);
        assert_eq!(
            kinds,
            [
                ("Ġab", TokenKind::Normal),
                ("<|end|>", control),
                ("<tool>", added),
                ("[PAD7]", unused),
                ("[PAD8]", unused)
            ]
        );
        let tokenizer = Tokenizer::new(spec).expect("is valid");
        assert_eq!(tokenizer.encode("ab ab<tool>", true).expect("encodes"), [2, 4, 6]);
    }

    #[test]
    fn the_template_says_what_is_added() {
        let mut json = byte_level_json(gpt2_part());
        json["post_processor"] = json!({
            "type": "Sequence",
            "processors": [{ "type": "ByteLevel" }, {
                "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": "<|end|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "special_tokens": { "<|end|>": { "id": "<|end|>", "ids": [5], "tokens": ["<|end|>"] } },
            }],
        });
        let spec = read(&json).expect("is read");
        assert_eq!((spec.bos, spec.add_bos, spec.add_eos), (Some(5), true, false));
    }

    #[test]
    fn what_is_not_read_is_named() {
        let split = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": r"\d{2}" }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "use_regex": false },
        ] });
        assert!(refusal(&byte_level_json(split)).contains(r"\d{2}"));
        assert!(refusal(&byte_level_json(json!({ "type": "Whitespace" }))).contains("Whitespace"));
        assert!(
            refusal(&byte_level_json(json!({ "type": "ByteLevel", "add_prefix_space": true })))
                .contains("add_prefix_space")
        );
        let spoiled = |pointer: &str, value: Json| {
            let mut json = byte_level_json(gpt2_part());
            *json.pointer_mut(pointer).expect("is there") = value;
            json
        };
        assert!(refusal(&spoiled("/model/type", json!("Unigram"))).contains("Unigram"));
        assert!(refusal(&spoiled("/normalizer", json!({ "type": "Lowercase" }))).contains("Lowercase"));
        assert!(
            refusal(&spoiled("/post_processor", json!({ "type": "BertProcessing" })))
                .contains("BertProcessing")
        );
        assert!(refusal(&spoiled("/decoder", json!({ "type": "WordPiece" }))).contains("WordPiece"));
        let stripped = json!({ "id": 5, "content": "<|end|>", "special": true, "lstrip": true });
        assert!(refusal(&spoiled("/added_tokens/0", stripped)).contains("`<|end|>` has `lstrip`"));
    }

    #[test]
    fn hostile_numbers_are_refused_before_anything_is_made() {
        let json = byte_level_json(gpt2_part());
        for size in [json!(1u64 << 60), json!(3)] {
            let error = TokenizerSpec::from_hf(&folder(&json, json!({}), json!({ "vocab_size": size })))
                .expect_err("is refused");
            assert_eq!(error.kind, Kind::Malformed, "{error}");
        }
        for (pointer, value) in [
            ("/added_tokens/0/id", json!(u64::MAX)),
            ("/model/vocab/a", json!(-1)),
            ("/model/vocab/a", json!(1)),
            ("/model/merges/0", json!("ab")),
            ("/model/merges", json!(7)),
        ] {
            let mut json = json.clone();
            *json.pointer_mut(pointer).expect("is there") = value;
            assert_eq!(read(&json).expect_err("is refused").kind, Kind::Malformed, "{pointer}");
        }
        let missing = TokenizerSpec::from_hf(&HfFolder::default()).expect_err("is refused");
        assert_eq!(missing.kind, Kind::Io);
    }

    fn sentence_piece_json(merges: Json) -> Json {
        json!({
            "added_tokens": [{ "id": 0, "content": "<unk>", "special": true }],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "▁" }, { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
            ] },
            "model": {
                "type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "merges": merges,
                "vocab": { "<unk>": 0, "<0x41>": 1, "ab": 2, "abc": 3, "a": 4, "b": 5, "c": 6 },
            },
        })
    }

    #[test]
    fn merges_of_a_sentencepiece_vocabulary_become_scores() {
        let spec = read(&sentence_piece_json(json!(["a b", "ab c"]))).expect("is read");
        assert_eq!(spec.model, TokenizerModel::SentencePiece);
        assert!(spec.add_space_prefix && spec.merges.is_empty());
        assert_eq!((spec.tokens[0].kind, spec.tokens[1].kind), (TokenKind::Unknown, TokenKind::Byte));
        assert_eq!((spec.tokens[2].score, spec.tokens[3].score), (0.0, -1.0));
    }

    #[test]
    fn merges_that_scores_cannot_say_are_refused() {
        assert!(refusal(&sentence_piece_json(json!(["ab c"]))).contains("`a` + `b` is not among the merges"));
        assert!(
            refusal(&sentence_piece_json(json!(["a b", "ab c", "a b"]))).contains("do not stand together")
        );
    }
}
