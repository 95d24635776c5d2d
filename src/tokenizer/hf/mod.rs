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
use crate::formats::HfFolder;
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
        let json: Json =
            serde_json::from_slice(bytes).map_err(|e| Error::new(Kind::Malformed, FILE, e.to_string()))?;
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
