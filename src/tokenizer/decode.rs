//! Ids to text, whole or as they come: the concatenation of a stream equals the decoding of all its ids.
//!
//! As HF's decoders do: bytes that are no UTF-8 become U+FFFD, and one leading space is taken from a
//! SentencePiece text. Spaces are never cleaned up. An id outside the vocabulary, or of padding, is nothing.

use super::{SPACE, Token, TokenKind, Tokenizer, TokenizerModel, alphabet, spm};

impl Tokenizer {
    /// The text of `ids`; with `skip_special`, without control and unknown tokens.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.finish());
        text
    }

    /// The bytes of `ids`, exactly as the tokens hold them: nothing replaced, no leading space taken.
    pub fn decode_bytes(&self, ids: &[u32], skip_special: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &id in ids {
            match self.meaning(id, skip_special) {
                Meaning::Nothing => {}
                Meaning::Bytes(b) => bytes.extend(b),
                Meaning::Byte(b) => bytes.push(b),
            }
        }
        bytes
    }

    /// A decoder for ids that come one by one.
    pub fn stream(&self, skip_special: bool) -> DecodeStream<'_> {
        let strip = self.spec().model == TokenizerModel::SentencePiece && self.spec().add_space_prefix;
        DecodeStream {
            tokenizer: self,
            skip_special,
            strip_space: strip,
            pending: Vec::new(),
            byte_run: Vec::new(),
        }
    }

    fn meaning(&self, id: u32, skip_special: bool) -> Meaning {
        let Some(token) = self.spec().tokens.get(id as usize) else { return Meaning::Nothing };
        match token.kind {
            TokenKind::Unused => Meaning::Nothing,
            TokenKind::Control | TokenKind::Unknown if skip_special => Meaning::Nothing,
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => {
                Meaning::Bytes(token.text.clone().into_bytes())
            }
            TokenKind::Byte => spm::token_byte(token).map_or(Meaning::Nothing, Meaning::Byte),
            TokenKind::Normal => Meaning::Bytes(ordinary(&self.spec().model, token)),
        }
    }
}

/// Text that grows id by id. An incomplete character is held back until its last byte is there.
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// Whether one leading space is still to be taken.
    strip_space: bool,
    /// Bytes that may be the start of a character.
    pending: Vec<u8>,
    /// Byte tokens since the last other token. They are text as a whole or not at all, so they wait for its end.
    byte_run: Vec<u8>,
}

impl DecodeStream<'_> {
    /// Takes the next id and gives the text that is now complete, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let mut text = String::new();
        match self.tokenizer.meaning(id, self.skip_special) {
            Meaning::Nothing => {}
            Meaning::Byte(byte) => self.byte_run.push(byte),
            Meaning::Bytes(bytes) => {
                self.end_byte_run(&mut text);
                self.pending.extend(bytes);
                self.drain_complete(&mut text);
            }
        }
        self.emit(text)
    }

    /// Gives what was held back: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let mut text = String::new();
        self.end_byte_run(&mut text);
        text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.pending)));
        self.emit(text)
    }

    fn end_byte_run(&mut self, text: &mut String) {
        let run = std::mem::take(&mut self.byte_run);
        match std::str::from_utf8(&run) {
            Ok(run) => text.push_str(run),
            Err(_) => text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, run.len())),
        }
    }

    fn drain_complete(&mut self, text: &mut String) {
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let rest = chunk.invalid();
            let may_go_on = done + rest.len() == self.pending.len() && is_incomplete(rest);
            if rest.is_empty() || may_go_on {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += rest.len();
        }
        self.pending.drain(..done);
    }

    fn emit(&mut self, mut text: String) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        if std::mem::take(&mut self.strip_space) && text.starts_with(' ') {
            text.remove(0);
        }
        (!text.is_empty()).then_some(text)
    }
}

enum Meaning {
    Nothing,
    Bytes(Vec<u8>),
    Byte(u8),
}

fn ordinary(model: &TokenizerModel, token: &Token) -> Vec<u8> {
    match model {
        TokenizerModel::SentencePiece => token.text.replace(SPACE, " ").into_bytes(),
        // A token that is not written in the byte alphabet is its own text.
        TokenizerModel::ByteLevelBpe { .. } => {
            let bytes: Option<Vec<u8>> = token.text.chars().map(alphabet::to_byte).collect();
            bytes.unwrap_or_else(|| token.text.clone().into_bytes())
        }
    }
}

/// Whether more bytes could make this the start of a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(e) if e.error_len().is_none())
}
