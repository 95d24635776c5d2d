//! [`Tokenizer`]: special tokens are found first, the text between them is encoded by the model.

use super::bpe::ByteLevel;
use super::special::{Fragment, SpecialTokens};
use super::spm::SentencePiece;
use super::{ChatMessage, TokenizerModel, TokenizerSpec};
use crate::error::{Error, Kind, Result};
use crate::formats::Checkpoint;
use std::collections::HashMap;

/// Text to ids and back, for one vocabulary.
///
/// Special tokens in a text are recognised as such (llama.cpp's `parse_special`), so a rendered chat can be
/// encoded as it is.
pub struct Tokenizer {
    spec: TokenizerSpec,
    ids: HashMap<Box<str>, u32>,
    special: SpecialTokens,
    model: Encoder,
}

enum Encoder {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(Box<SentencePiece>),
}

impl Tokenizer {
    /// Builds the tokenizer of a spec.
    ///
    /// # Errors
    /// Malformed: an empty vocabulary, a text that two ids share, an id outside the vocabulary, a merge of
    /// unknown tokens, `add_bos` without a `bos`. Unsupported: an unknown pre-tokenizer.
    pub fn new(spec: TokenizerSpec) -> Result<Tokenizer> {
        check_ids(&spec)?;
        let mut ids = HashMap::with_capacity(spec.tokens.len());
        for (id, token) in (0u32..).zip(&spec.tokens) {
            if let Some(first) = ids.insert(Box::from(token.text.as_str()), id) {
                let what = format!("tokens {first} and {id} share the text `{}`", token.text);
                return Err(
                    Error::new(Kind::Malformed, "tokenizer vocabulary", what).at(format!("token {id}"))
                );
            }
        }
        let model = match &spec.model {
            TokenizerModel::ByteLevelBpe { pre } => {
                Encoder::ByteLevel(Box::new(ByteLevel::new(&spec, pre, &ids)?))
            }
            TokenizerModel::SentencePiece => {
                Encoder::SentencePiece(Box::new(SentencePiece::new(&spec, &ids)?))
            }
        };
        let special = SpecialTokens::new(&spec.tokens);
        Ok(Tokenizer { spec, ids, special, model })
    }

    /// Builds the tokenizer that a model file carries.
    ///
    /// # Errors
    /// As [`TokenizerSpec::from_checkpoint`] and [`new`](Self::new).
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Tokenizer> {
        Tokenizer::new(TokenizerSpec::from_checkpoint(checkpoint)?)
    }

    /// The ids of a text; with `add_special`, between BOS and EOS where the model wants them.
    ///
    /// # Errors
    /// Unsupported: a character that a SentencePiece vocabulary without bytes and unknown token cannot write.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        if add_special && self.spec.add_bos {
            out.extend(self.spec.bos);
        }
        // SentencePiece puts its space before a text that starts or that follows a special token.
        let mut after_special = true;
        for fragment in self.special.partition(text) {
            match fragment {
                Fragment::Special(id) => {
                    out.push(id);
                    after_special = true;
                }
                Fragment::Text(range) => {
                    match &self.model {
                        Encoder::ByteLevel(model) => model.encode(&text[range], &mut out)?,
                        Encoder::SentencePiece(model) => {
                            model.encode(
                                &text[range],
                                self.spec.add_space_prefix && after_special,
                                &self.ids,
                                &mut out,
                            )?;
                        }
                    }
                    after_special = false;
                }
            }
        }
        if add_special && self.spec.add_eos {
            out.extend(self.spec.eos);
        }
        Ok(out)
    }

    /// The stored text of a token; `None` for an id outside the vocabulary.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.spec.tokens.get(id as usize).map(|t| t.text.as_str())
    }

    /// The id of a stored text.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// The number of ids, padding included.
    pub fn vocab_size(&self) -> usize {
        self.spec.tokens.len()
    }

    /// What the tokenizer was built from.
    pub fn spec(&self) -> &TokenizerSpec {
        &self.spec
    }

    /// Every id that ends a generation.
    pub fn stop_ids(&self) -> Vec<u32> {
        self.spec.stop_ids()
    }

    /// Writes a conversation as the model's chat template does, with the opening of the assistant's turn if
    /// `add_generation_prompt`. The result holds BOS where the template writes it: encode it without special
    /// tokens.
    ///
    /// # Errors
    /// Unsupported: no chat template, or one that does not parse. Usage: the template refuses the messages
    /// (its `raise_exception`).
    pub fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String> {
        super::chat::render(&self.spec, messages, add_generation_prompt)
    }
}

fn check_ids(spec: &TokenizerSpec) -> Result<()> {
    if spec.tokens.is_empty() {
        return Err(Error::new(Kind::Malformed, "tokenizer vocabulary", "no tokens").at("token 0"));
    }
    let n = spec.tokens.len();
    let named = [("bos", spec.bos), ("eos", spec.eos), ("unknown", spec.unk), ("padding", spec.pad)];
    let more = spec.more_eos.iter().map(|&id| ("end-of-generation", Some(id)));
    for (name, id) in named.into_iter().chain(more) {
        if let Some(id) = id.filter(|&id| id as usize >= n) {
            return Err(Error::new(
                Kind::Malformed,
                "tokenizer",
                format!("the {name} token is {id}, but the vocabulary has {n} tokens"),
            )
            .at(format!("the {name} token")));
        }
    }
    for (flag, name, id) in [(spec.add_bos, "bos", spec.bos), (spec.add_eos, "eos", spec.eos)] {
        if flag && id.is_none() {
            return Err(Error::new(
                Kind::Malformed,
                "tokenizer",
                format!("a {name} token is to be added, but none is named"),
            )
            .at(format!("the {name} token")));
        }
    }
    Ok(())
}
