//! Writing a spec as the tokenizer files of an HF folder, which transformers loads as they are.
//!
//! Two things do not survive this container: SentencePiece scores come back as ranks (the order is kept), and
//! a token's type comes back as special, added or ordinary (the unknown token and bytes by their names).

use super::super::pre::without_listed_blanks;
use super::super::{PreTokenizer, Token, TokenKind, TokenizerModel, TokenizerSpec};
use super::{pipeline::PRE_KEY, scores, vocabulary};
use crate::error::Result;
use serde_json::{Map, Value as Json, json};

/// The tokenizer files of an HF folder.
#[derive(Debug, Clone, PartialEq)]
pub struct HfTokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer_json: Json,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Map<String, Json>,
    /// `eos_token_id` of `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
}

impl TokenizerSpec {
    /// The files of an HF folder. Unused tokens are left out: they are the rows that `config.json`'s
    /// `vocab_size` counts beyond the vocabulary.
    ///
    /// # Errors
    /// Unsupported: an unknown pre-tokenizer.
    pub fn to_hf(&self) -> Result<HfTokenizerFiles> {
        let pre = match &self.model {
            TokenizerModel::ByteLevelBpe { pre } => Some(PreTokenizer::named(pre)?),
            TokenizerModel::SentencePiece => None,
        };
        let tokenizer_json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": self.normalizer(),
            "pre_tokenizer": pre.map(pre_tokenizer),
            "post_processor": self.post_processor(),
            "decoder": self.decoder(),
            "model": self.hf_model(pre),
        });
        Ok(HfTokenizerFiles {
            tokenizer_json,
            tokenizer_config: self.tokenizer_config(),
            eos_token_ids: self.stop_ids(),
        })
    }

    fn added_tokens(&self) -> Json {
        let added = |(id, token): (usize, &Token)| {
            let special = match token.kind {
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::UserDefined => false,
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => return None,
            };
            Some(json!({
                "id": id, "content": token.text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special,
            }))
        };
        self.tokens.iter().enumerate().filter_map(added).collect()
    }

    fn normalizer(&self) -> Json {
        match self.model {
            TokenizerModel::ByteLevelBpe { .. } if self.nfc => json!({ "type": "NFC" }),
            TokenizerModel::ByteLevelBpe { .. } => Json::Null,
            TokenizerModel::SentencePiece => {
                let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
                let prepend = json!({ "type": "Prepend", "prepend": "▁" });
                json!({ "type": "Sequence", "normalizers": if self.add_space_prefix { vec![prepend, replace] } else { vec![replace] } })
            }
        }
    }

    fn decoder(&self) -> Json {
        match self.model {
            TokenizerModel::ByteLevelBpe { .. } => {
                json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true })
            }
            TokenizerModel::SentencePiece => {
                let mut decoders = vec![
                    json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
                    json!({ "type": "ByteFallback" }),
                    json!({ "type": "Fuse" }),
                ];
                if self.add_space_prefix {
                    decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
                }
                json!({ "type": "Sequence", "decoders": decoders })
            }
        }
    }

    fn post_processor(&self) -> Json {
        let (before, after) = (self.bos.filter(|_| self.add_bos), self.eos.filter(|_| self.add_eos));
        let text = |id: u32| self.tokens.get(id as usize).map_or("", |t| t.text.as_str());
        let special =
            |id: u32, sequence: u32| json!({ "SpecialToken": { "id": text(id), "type_id": sequence } });
        let around = |name: &str, sequence: u32| -> Vec<Json> {
            let body = json!({ "Sequence": { "id": name, "type_id": sequence } });
            before
                .map(|id| special(id, sequence))
                .into_iter()
                .chain([body])
                .chain(after.map(|id| special(id, sequence)))
                .collect()
        };
        if before.is_none() && after.is_none() {
            return Json::Null;
        }
        let mut named = Map::new();
        for id in before.into_iter().chain(after) {
            named.insert(text(id).to_owned(), json!({ "id": text(id), "ids": [id], "tokens": [text(id)] }));
        }
        let single = around("A", 0);
        let pair: Vec<Json> = single.iter().cloned().chain(around("B", 1)).collect();
        json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": named })
    }

    fn hf_model(&self, pre: Option<&PreTokenizer>) -> Json {
        let is_listed =
            |id: usize, t: &Token| t.kind != TokenKind::Unused || t.text != vocabulary::unused_text(id);
        let vocab: Map<String, Json> = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(id, t)| is_listed(*id, t))
            .map(|(id, t)| (t.text.clone(), json!(id)))
            .collect();
        let unk = self.unk.and_then(|id| self.tokens.get(id as usize)).map(|t| t.text.as_str());
        let merges: Json = match pre {
            Some(_) => self.merges.iter().map(|(a, b)| json!([a, b])).collect(),
            None => scores::merges(&self.tokens).into_iter().map(|(a, b)| json!([a, b])).collect(),
        };
        let sentence_piece = pre.is_none();
        json!({
            "type": "BPE",
            "dropout": null,
            // Byte-level text is never unknown; naming the token there would only change how it fails.
            "unk_token": if sentence_piece { unk } else { None },
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": sentence_piece,
            "byte_fallback": sentence_piece,
            "ignore_merges": pre.is_some_and(|p| p.ignore_merges),
            "vocab": vocab,
            "merges": merges,
        })
    }

    fn tokenizer_config(&self) -> Map<String, Json> {
        let text = |id: Option<u32>| id.and_then(|id| self.tokens.get(id as usize)).map(|t| t.text.as_str());
        let mut config = Map::new();
        let mut put = |key: &str, value: Json| config.insert(key.to_owned(), value);
        put("add_bos_token", json!(self.add_bos));
        put("add_eos_token", json!(self.add_eos));
        put("bos_token", json!(text(self.bos)));
        if let Some(template) = &self.chat_template {
            put("chat_template", json!(template));
        }
        put("clean_up_tokenization_spaces", json!(false));
        put("eos_token", json!(text(self.eos)));
        if let TokenizerModel::ByteLevelBpe { pre } = &self.model {
            put(PRE_KEY, json!(pre));
        }
        put("pad_token", json!(text(self.pad)));
        // The class that takes tokenizer.json as it is; those of the families rebuild it in their own way.
        put("tokenizer_class", json!("PreTrainedTokenizerFast"));
        put("unk_token", json!(text(self.unk)));
        config
    }
}

fn pre_tokenizer(pre: &PreTokenizer) -> Json {
    let split = |regex: &&str| json!({ "type": "Split", "pattern": { "Regex": without_listed_blanks(regex) }, "behavior": "Isolated", "invert": false });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({ "type": "Sequence", "pretokenizers": pre.regexes.iter().map(split).chain([byte_level]).collect::<Vec<_>>() })
}
