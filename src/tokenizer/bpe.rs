//! Byte-level BPE: text is cut, its bytes are written in GPT-2's alphabet, and the merges join them by rank.
//!
//! The merging is the `tokenizers` crate's; the cutting is ours, because a run of a million blanks makes a
//! backtracking matcher stop without saying so.

use super::alphabet;
use super::pre::{PreTokenizer, Splitter};
use super::{Token, TokenizerSpec};
use crate::error::{Error, Kind, Result};
use std::collections::{HashMap, HashSet};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{Model, Token as Piece};

/// A byte-level BPE encoder.
pub(super) struct ByteLevel {
    splitter: Splitter,
    model: BPE,
    /// Whether the vocabulary has the one-byte token.
    known: [bool; 256],
}

impl ByteLevel {
    /// Builds the encoder of a spec whose pre-tokenizer is `pre`.
    pub(super) fn new(spec: &TokenizerSpec, pre: &str, ids: &HashMap<Box<str>, u32>) -> Result<ByteLevel> {
        let pre = PreTokenizer::named(pre)?;
        let vocab: Vocab =
            (0u32..).zip(&spec.tokens).map(|(id, Token { text, .. })| (text.clone(), id)).collect();
        let mut known = [false; 256];
        for byte in 0..=255u8 {
            known[byte as usize] = ids.contains_key(alphabet::to_char(byte).encode_utf8(&mut [0; 4]) as &str);
        }
        let model = BPE::builder()
            .vocab_and_merges(vocab, checked_merges(spec, ids)?)
            .ignore_merges(pre.ignore_merges)
            .build()
            .map_err(|e| Error::new(Kind::Malformed, "tokenizer merges", e.to_string()))?;
        Ok(ByteLevel { splitter: Splitter::new(pre)?, model, known })
    }

    /// Appends the ids of `text`, which holds no special token. A byte that has no token is left out, as
    /// llama.cpp does, and nothing is joined across it.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let mut word = String::new();
        for piece in self.splitter.split(text) {
            for known in text[piece].as_bytes().split(|&b| !self.known[b as usize]) {
                word.clear();
                word.extend(known.iter().map(|&b| alphabet::to_char(b)));
                let pieces: Vec<Piece> = self
                    .model
                    .tokenize(&word)
                    .map_err(|e| Error::new(Kind::Internal, "tokenizer", e.to_string()))?;
                out.extend(pieces.into_iter().map(|p| p.id));
            }
        }
        Ok(())
    }
}

/// The merges in rank order; of a pair named twice the better rank counts, as in llama.cpp.
fn checked_merges(spec: &TokenizerSpec, ids: &HashMap<Box<str>, u32>) -> Result<Vec<(String, String)>> {
    let mut seen = HashSet::with_capacity(spec.merges.len());
    let mut merges = Vec::with_capacity(spec.merges.len());
    let mut joined = String::new();
    for (rank, (left, right)) in spec.merges.iter().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        if let Some(missing) = [left, right, &joined].into_iter().find(|t| !ids.contains_key(t.as_str())) {
            let what =
                format!("`{left}` and `{right}` are to be joined, but `{missing}` is not in the vocabulary");
            return Err(Error::new(Kind::Malformed, "tokenizer merges", what).at(format!("merge {rank}")));
        }
        if seen.insert((left, right)) {
            merges.push((left.clone(), right.clone()));
        }
    }
    Ok(merges)
}
