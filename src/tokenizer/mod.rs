//! Text to token ids and back: one tokenizer, built from a source-neutral [`TokenizerSpec`].
//!
//! `tokenizer.json`, GGUF metadata and APR metadata are each read into the same spec, so one model gives
//! the same ids whatever its container.

use serde_json::{Map, Value as Json};

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
