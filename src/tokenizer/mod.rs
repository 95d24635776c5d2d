//! Text to token ids and back: one tokenizer, built from a source-neutral [`TokenizerSpec`].
//!
//! `tokenizer.json`, GGUF metadata and APR metadata are each read into the same spec, so one model gives
//! the same ids whatever its container, and those are the ids that llama.cpp gives for the GGUF.

#[cfg(test)]
mod agreement;
mod alphabet;
mod apr;
mod bpe;
mod chat;
mod decode;
mod gguf;
mod hf;
mod pre;
mod pycompat;
mod special;
mod spm;
mod stored;
mod text;

pub use chat::ChatMessage;
pub use decode::DecodeStream;
pub use hf::HfTokenizerFiles;
pub use pre::{PRE_TOKENIZERS, PreTokenizer};
pub use text::Tokenizer;

use crate::error::Result;
use crate::formats::{Checkpoint, Container};

/// Everything that decides how text becomes ids, and how a chat is written.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerSpec {
    /// The algorithm.
    pub model: TokenizerModel,
    /// Index = id. Byte-level vocabularies keep GPT-2's printable byte alphabet, as GGUF stores them.
    pub tokens: Vec<Token>,
    /// `"left right"` pairs in rank order; empty for a vocabulary that merges by score.
    pub merges: Vec<(String, String)>,
    /// Begin of sequence.
    pub bos: Option<u32>,
    /// The token that ends a generation.
    pub eos: Option<u32>,
    /// Further ids that end a generation (`<|im_end|>`, `generation_config.json`'s list).
    pub more_eos: Vec<u32>,
    /// Unknown.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Whether a prompt starts with `bos`.
    pub add_bos: bool,
    /// Whether a prompt ends with `eos`.
    pub add_eos: bool,
    /// Whether SentencePiece puts a space before the text.
    pub add_space_prefix: bool,
    /// Whether the HF tokenizer composes its input (Unicode NFC) first. Kept so that an HF export says it
    /// again; never applied here, because llama.cpp does not normalize and the ids of all containers are one.
    pub nfc: bool,
    /// Jinja source of the chat template.
    pub chat_template: Option<String>,
}

/// The algorithm, with what only it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerModel {
    /// GPT-2 style BPE over bytes; `pre` is the value of `tokenizer.ggml.pre`.
    ByteLevelBpe {
        /// The pre-tokenizer's name, one of [`PRE_TOKENIZERS`].
        pre: String,
    },
    /// SentencePiece BPE with byte fallback, merging by score (llama.cpp's `llama`).
    SentencePiece,
}

/// One vocabulary entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The stored text.
    pub text: String,
    /// SentencePiece's score; 0 for byte-level BPE.
    pub score: f32,
    /// What it is.
    pub kind: TokenKind,
}

/// GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// 1: ordinary text.
    Normal,
    /// 2: unknown.
    Unknown,
    /// 3: special; hidden in decoded text.
    Control,
    /// 4: added by the user; matched before the pre-tokenizer, shown in decoded text.
    UserDefined,
    /// 5: padding of the vocabulary.
    Unused,
    /// 6: one byte, `<0x0A>`.
    Byte,
}

impl TokenizerSpec {
    /// Reads the tokenizer of an HF folder, a GGUF or an APR file.
    ///
    /// # Errors
    /// Malformed metadata, and what this program does not do (an unknown pre-tokenizer, a Unigram model),
    /// each by name.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<TokenizerSpec> {
        let spec = match &checkpoint.container {
            Container::Hf(folder) => TokenizerSpec::from_hf(folder),
            Container::Gguf(header) => TokenizerSpec::from_gguf(header),
            Container::Apr(header) => TokenizerSpec::from_apr(header),
        };
        spec.map_err(|mut error| {
            error.subject = format!("{}: {}", checkpoint.path.display(), error.subject);
            error
        })
    }

    /// Every id that ends a generation: `eos` first, then [`more_eos`](Self::more_eos), none twice.
    pub fn stop_ids(&self) -> Vec<u32> {
        let all = self.eos.into_iter().chain(self.more_eos.iter().copied());
        stored::distinct_but(None, all.collect())
    }
}

impl TokenKind {
    /// The number in `tokenizer.ggml.token_type`; `None` for one that GGUF does not define.
    /// 0 (undefined) is shown as nothing by llama.cpp, as an unused token is.
    fn from_ggml(number: i64) -> Option<TokenKind> {
        Some(match number {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            0 | 5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => return None,
        })
    }

    fn to_ggml(self) -> i32 {
        match self {
            TokenKind::Normal => 1,
            TokenKind::Unknown => 2,
            TokenKind::Control => 3,
            TokenKind::UserDefined => 4,
            TokenKind::Unused => 5,
            TokenKind::Byte => 6,
        }
    }
}

/// The most tokens a vocabulary may have, sixteen times the largest in use: a bound for what a size in a
/// file may make this program allocate.
const MAX_VOCABULARY: usize = 1 << 22;

/// SentencePiece's visible space.
const SPACE: char = '\u{2581}';
