//! SentencePiece BPE by score: of all neighbours whose union is a token, the best union is joined first,
//! the leftmost among equals, until none is left; what is then no token is written in bytes.
//!
//! This is llama.cpp's rule for `tokenizer.ggml.model = llama`. It needs no list of merges, and n characters
//! cost O(n log n).

use super::{SPACE, Token, TokenKind, TokenizerSpec};
use crate::error::{Error, Kind, Result};
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

/// A SentencePiece encoder.
pub(super) struct SentencePiece {
    scores: Vec<f32>,
    /// The token of each byte, where there is one.
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    /// Bytes of the longest token: no longer union is worth looking up.
    longest: usize,
}

impl SentencePiece {
    /// Builds the encoder of a spec.
    pub(super) fn new(spec: &TokenizerSpec, ids: &HashMap<Box<str>, u32>) -> Result<SentencePiece> {
        let mut scores = Vec::with_capacity(spec.tokens.len());
        for (id, Token { text, score, .. }) in spec.tokens.iter().enumerate() {
            if !score.is_finite() {
                return Err(Error::new(
                    Kind::Malformed,
                    "tokenizer scores",
                    format!("`{text}` has the score {score}"),
                )
                .at(format!("token {id}")));
            }
            // Minus zero and zero are one score.
            scores.push(score + 0.0);
        }
        let mut bytes = [None; 256];
        for byte in 0..=255u8 {
            let by_name = ids.get(byte_token(byte).as_str());
            // A vocabulary without byte tokens may have the ASCII character itself.
            let by_char =
                byte.is_ascii().then(|| ids.get(char::from(byte).encode_utf8(&mut [0; 4]) as &str)).flatten();
            bytes[byte as usize] = by_name.or(by_char).copied();
        }
        let longest = spec.tokens.iter().map(|t| t.text.len()).max().unwrap_or(0);
        Ok(SentencePiece { scores, bytes, unk: spec.unk, longest })
    }

    /// Appends the ids of `text`, which holds no special token, with a space before it if `space_prefix`.
    pub(super) fn encode(
        &self,
        text: &str,
        space_prefix: bool,
        ids: &HashMap<Box<str>, u32>,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let mut escaped = String::with_capacity(text.len() + 16);
        if space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for piece in Pieces::new(&escaped, self, ids).join() {
            match ids.get(piece) {
                Some(&id) => out.push(id),
                None => self.spell(piece, out)?,
            }
        }
        Ok(())
    }

    /// A character that is no token: its bytes, or the unknown token.
    fn spell(&self, piece: &str, out: &mut Vec<u32>) -> Result<()> {
        let bytes: Option<Vec<u32>> = piece.bytes().map(|b| self.bytes[b as usize]).collect();
        match (bytes, self.unk) {
            (Some(ids), _) => out.extend(ids),
            (None, Some(unk)) => out.push(unk),
            (None, None) => {
                let what = format!(
                    "`{}` is no token, and the vocabulary has neither its bytes nor an unknown token",
                    piece.escape_debug()
                );
                return Err(Error::unsupported("tokenizer", what));
            }
        }
        Ok(())
    }
}

/// The text of a byte's token, `<0x0A>`.
pub(super) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte of a byte token.
pub(super) fn token_byte(token: &Token) -> Option<u8> {
    let hex = token.text.strip_prefix("<0x")?.strip_suffix('>')?;
    if token.kind == TokenKind::Byte && hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// A text as a chain of pieces that are joined in place.
struct Pieces<'t> {
    text: &'t str,
    spm: &'t SentencePiece,
    ids: &'t HashMap<Box<str>, u32>,
    /// In text order; a piece that was joined to its left neighbour has length 0.
    chain: Vec<Piece>,
    queue: BinaryHeap<Union>,
}

struct Piece {
    start: usize,
    len: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours whose union is a token. The greatest is joined first.
struct Union {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when this was queued: a piece that has changed since has another length.
    len: usize,
}

impl<'t> Pieces<'t> {
    fn new(text: &'t str, spm: &'t SentencePiece, ids: &'t HashMap<Box<str>, u32>) -> Self {
        let mut chain: Vec<Piece> = text
            .char_indices()
            .enumerate()
            .map(|(i, (start, c))| Piece {
                start,
                len: c.len_utf8(),
                prev: i.checked_sub(1),
                next: Some(i + 1),
            })
            .collect();
        if let Some(last) = chain.last_mut() {
            last.next = None;
        }
        Pieces { text, spm, ids, chain, queue: BinaryHeap::new() }
    }

    fn join(mut self) -> Vec<&'t str> {
        for right in 1..self.chain.len() {
            self.consider(Some(right - 1), Some(right));
        }
        while let Some(Union { left, right, len, .. }) = self.queue.pop() {
            let (left_len, right_len) = (self.chain[left].len, self.chain[right].len);
            if left_len == 0 || right_len == 0 || left_len + right_len != len {
                continue;
            }
            let after = self.chain[right].next;
            self.chain[left].len = len;
            self.chain[right].len = 0;
            self.chain[left].next = after;
            if let Some(after) = after {
                self.chain[after].prev = Some(left);
            }
            self.consider(self.chain[left].prev, Some(left));
            self.consider(Some(left), after);
        }
        self.chain.iter().filter(|p| p.len > 0).map(|p| &self.text[p.start..p.start + p.len]).collect()
    }

    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let start = self.chain[left].start;
        let len = self.chain[left].len + self.chain[right].len;
        if len > self.spm.longest {
            return;
        }
        if let Some(&id) = self.ids.get(&self.text[start..start + len]) {
            self.queue.push(Union { score: self.spm.scores[id as usize], left, right, len });
        }
    }
}

impl Ord for Union {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialOrd for Union {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Union {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Union {}
