//! Tokens and merges of `tokenizer.json`, padded to the rows of the embedding.

use super::super::stored::check_length;
use super::super::{MAX_VOCABULARY, Token, TokenKind};
use super::{malformed, unsupported};
use crate::error::Result;
use crate::formats::HfFolder;
use serde_json::{Map, Value as Json};

/// The vocabulary by id. An id below `config.json`'s `vocab_size` that no text has becomes an unused token,
/// named as llama.cpp's converter names it. `sentence_piece` is `Some(unk_token)` for such a model.
pub(super) fn tokens(
    json: &Json,
    folder: &HfFolder,
    sentence_piece: Option<Option<&str>>,
) -> Result<Vec<Token>> {
    let vocab =
        json["model"]["vocab"].as_object().ok_or_else(|| malformed("not an object").at("model.vocab"))?;
    let added = added(json)?;
    let rows = folder.config.get("vocab_size").and_then(Json::as_u64);
    let size = size(vocab, &added, rows)?;
    if size > 2 * (vocab.len() + added.len()) + MOST_UNUSED {
        let what = format!("ids go up to {}, but there are {} tokens", size - 1, vocab.len() + added.len());
        return Err(malformed(what).at("model.vocab"));
    }
    let mut slots: Vec<Option<Token>> = vec![None; size];
    for (text, id) in vocab {
        let kind =
            if sentence_piece.is_some() && is_byte(text) { TokenKind::Byte } else { TokenKind::Normal };
        place(&mut slots, id, text, kind)?;
    }
    for token in &added {
        let mut text = token.text.to_owned();
        let kind = match (sentence_piece, token.special) {
            (Some(Some(unk)), true) if unk == text => TokenKind::Unknown,
            (_, true) => TokenKind::Control,
            (Some(_), false) => {
                // It is matched in the text before spaces are made visible.
                text = text.replace(super::super::SPACE, " ");
                TokenKind::UserDefined
            }
            (None, false) => TokenKind::UserDefined,
        };
        // An added token may name one of the vocabulary, and then says more of it.
        let slot = usize::try_from(token.id).ok().and_then(|id| slots.get_mut(id));
        if let Some(slot) = slot.filter(|s| s.as_ref().is_some_and(|t| t.text == token.text)) {
            *slot = Some(Token { text, score: 0.0, kind });
        } else {
            place(&mut slots, &Json::from(token.id), &text, kind)?;
        }
    }
    Ok(fill(slots))
}

/// The merges in rank order, from `"a b"` or `["a", "b"]`.
pub(super) fn merges(json: &Json) -> Result<Vec<(String, String)>> {
    let list =
        json["model"]["merges"].as_array().ok_or_else(|| malformed("not a list").at("model.merges"))?;
    let pair = |(rank, merge): (usize, &Json)| {
        let parts = match merge {
            Json::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
            Json::Array(parts) => match parts.as_slice() {
                [Json::String(a), Json::String(b)] => Some((a.clone(), b.clone())),
                _ => None,
            },
            _ => None,
        };
        let parts = parts.filter(|(a, b)| !a.is_empty() && !b.is_empty());
        parts.ok_or_else(|| malformed(format!("`{merge}` is not two parts")).at(format!("merge {rank}")))
    };
    list.iter().enumerate().map(pair).collect()
}

/// How many ids without a token a vocabulary may have beside as many as it has tokens: embeddings are padded to a
/// round number of rows, never to many times their size. A file of a few bytes must not make millions of tokens.
const MOST_UNUSED: usize = 1 << 16;

struct Added<'j> {
    id: u64,
    text: &'j str,
    special: bool,
}

fn added(json: &Json) -> Result<Vec<Added<'_>>> {
    let list = match &json["added_tokens"] {
        Json::Null => return Ok(Vec::new()),
        list => list.as_array().ok_or_else(|| malformed("not a list").at("added_tokens"))?,
    };
    list.iter()
        .map(|token| {
            let flag = |name: &str| token[name].as_bool().unwrap_or(false);
            let id = token["id"].as_u64().ok_or_else(|| malformed("a token has no id").at("added_tokens"))?;
            let text = token["content"]
                .as_str()
                .filter(|t| !t.is_empty())
                .ok_or_else(|| malformed(format!("token {id} has no content")).at("added_tokens"))?;
            // GGUF cannot carry these: llama.cpp would give other ids.
            if let Some(name) = ["lstrip", "rstrip", "single_word"].into_iter().find(|name| flag(name)) {
                return Err(unsupported("added_tokens", format!("`{text}` has `{name}`")));
            }
            Ok(Added { id, text, special: flag("special") })
        })
        .collect()
}

fn size(vocab: &Map<String, Json>, added: &[Added], rows: Option<u64>) -> Result<usize> {
    let ids = vocab.values().filter_map(Json::as_u64).chain(added.iter().map(|a| a.id));
    let used = ids.max().map_or(0, |max| max.saturating_add(1));
    let size = match rows {
        Some(rows) if rows < used => {
            return Err(malformed(format!(
                "token {} is outside the {rows} tokens of config.json's vocab_size",
                used - 1
            ))
            .at("model.vocab"));
        }
        Some(rows) => rows,
        None => used,
    };
    usize::try_from(size)
        .ok()
        .filter(|&n| n <= MAX_VOCABULARY)
        .ok_or_else(|| malformed(format!("{size} tokens; {MAX_VOCABULARY} at most can be")).at("model.vocab"))
}

fn place(slots: &mut [Option<Token>], id: &Json, text: &str, kind: TokenKind) -> Result<()> {
    let index = id.as_u64().and_then(|id| usize::try_from(id).ok());
    let slot = index
        .and_then(|id| slots.get_mut(id))
        .ok_or_else(|| malformed(format!("`{text}` has the id {id}")).at("model.vocab"))?;
    check_length(text)?;
    if let Some(other) = slot {
        return Err(malformed(format!("`{text}` and `{}` share the id {id}", other.text)).at("model.vocab"));
    }
    *slot = Some(Token { text: text.to_owned(), score: 0.0, kind });
    Ok(())
}

fn fill(slots: Vec<Option<Token>>) -> Vec<Token> {
    let unused = |id: usize| Token { text: unused_text(id), score: 0.0, kind: TokenKind::Unused };
    slots.into_iter().enumerate().map(|(id, slot)| slot.unwrap_or_else(|| unused(id))).collect()
}

/// What llama.cpp's converter writes for an id that no text has.
pub(super) fn unused_text(id: usize) -> String {
    format!("[PAD{id}]")
}

fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|h| h.len() == 2 && u8::from_str_radix(h, 16).is_ok())
}
