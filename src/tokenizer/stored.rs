//! What GGUF and APR metadata say of a tokenizer, before llama.cpp's defaults fill what they leave out.

use super::{MAX_VOCABULARY, PreTokenizer, Token, TokenKind, TokenizerModel, TokenizerSpec, special};
use crate::error::{Error, Kind, Result};

/// A tokenizer as stored: everything optional is `None` where the file does not say.
#[derive(Default)]
pub(super) struct Stored {
    /// `gpt2` or `llama`.
    pub model: String,
    pub pre: Option<String>,
    pub tokens: Vec<String>,
    pub scores: Option<Vec<f32>>,
    pub kinds: Option<Vec<i64>>,
    pub merges: Option<Vec<String>>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    /// The whole list of ids that end a generation, where this program wrote it.
    pub stops: Option<Vec<u32>>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub nfc: Option<bool>,
    pub chat_template: Option<String>,
}

impl Stored {
    /// Fills in the defaults of llama.cpp, except one: a byte-level file without BOS or EOS has none. (There
    /// llama.cpp takes token 11, a comma in GPT-2's vocabulary.)
    pub(super) fn into_spec(self) -> Result<TokenizerSpec> {
        let sentence_piece = match self.model.as_str() {
            "gpt2" => false,
            "llama" => true,
            other => {
                return Err(Error::unsupported("tokenizer model", format!("`{other}`"))
                    .hint("supported: gpt2, llama"));
            }
        };
        let tokens = tokens(self.tokens, self.scores.filter(|_| sentence_piece), self.kinds)?;
        let within = |id: u32| Some(id).filter(|&id| (id as usize) < tokens.len());
        let or = |id: Option<u32>, default: u32| id.or_else(|| within(default).filter(|_| sentence_piece));
        let (bos, eos, unk) = (or(self.bos, 1), or(self.eos, 2), or(self.unk, 0));
        let more_eos = match self.stops {
            Some(stops) => distinct_but(eos, stops),
            None => {
                let mut more: Vec<u32> = self.eot.into_iter().chain(self.eom).collect();
                more.extend(special::end_of_generation(&tokens));
                distinct_but(eos, more)
            }
        };
        let (model, add_bos) = if sentence_piece {
            (TokenizerModel::SentencePiece, true)
        } else {
            let pre = self.pre.unwrap_or_else(|| "default".to_owned());
            let add_bos = PreTokenizer::named(&pre)?.add_bos;
            (TokenizerModel::ByteLevelBpe { pre }, add_bos && bos.is_some())
        };
        let merges = match self.merges {
            _ if sentence_piece => Vec::new(),
            Some(merges) => {
                merges.iter().enumerate().map(|(i, m)| split_merge(i, m)).collect::<Result<_>>()?
            }
            None => return Err(Error::new(Kind::Malformed, "tokenizer merges", "missing")),
        };
        Ok(TokenizerSpec {
            model,
            tokens,
            merges,
            bos,
            eos,
            more_eos,
            unk,
            pad: self.pad,
            add_bos: self.add_bos.unwrap_or(add_bos),
            add_eos: self.add_eos.unwrap_or(false),
            // llama.cpp looks at this for SentencePiece alone.
            add_space_prefix: sentence_piece && self.add_space_prefix.unwrap_or(true),
            nfc: self.nfc.unwrap_or(false),
            chat_template: self.chat_template,
        })
    }
}

/// A merge as GGUF and APR write it: the two parts with a space between. Spaces inside a part are written as
/// U+0120, which is what they are in the byte alphabet.
pub(super) fn join_merge((left, right): &(String, String)) -> String {
    format!("{} {}", left.replace(' ', "Ġ"), right.replace(' ', "Ġ"))
}

/// The texts of the vocabulary with no text twice: llama.cpp refuses a file where two ids share one. The
/// second gets its id as a suffix; nothing can encode to it, before or after.
pub(super) fn distinct_texts(tokens: &[Token]) -> Vec<String> {
    let mut seen = std::collections::HashSet::with_capacity(tokens.len());
    let all: std::collections::HashSet<&str> = tokens.iter().map(|t| t.text.as_str()).collect();
    let mut texts = Vec::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let mut text = token.text.clone();
        while !seen.insert(text.clone()) {
            text = format!("{text}_{id}");
            while all.contains(text.as_str()) {
                text.push('_');
            }
        }
        texts.push(text);
    }
    texts
}

/// `ids` in order, without repetition and without `but`.
pub(super) fn distinct_but(but: Option<u32>, ids: Vec<u32>) -> Vec<u32> {
    let mut seen: std::collections::HashSet<u32> = but.into_iter().collect();
    ids.into_iter().filter(|&id| seen.insert(id)).collect()
}

fn tokens(texts: Vec<String>, scores: Option<Vec<f32>>, kinds: Option<Vec<i64>>) -> Result<Vec<Token>> {
    let n = texts.len();
    if n == 0 || n > MAX_VOCABULARY {
        return Err(Error::new(
            Kind::Malformed,
            "tokenizer vocabulary",
            format!("{n} tokens; 1 to {MAX_VOCABULARY} can be"),
        ));
    }
    for (what, len) in
        [("scores", scores.as_ref().map(Vec::len)), ("token types", kinds.as_ref().map(Vec::len))]
    {
        if let Some(len) = len.filter(|&len| len < n) {
            return Err(Error::new(
                Kind::Malformed,
                "tokenizer vocabulary",
                format!("{len} {what} for {n} tokens"),
            ));
        }
    }
    let mut tokens = Vec::with_capacity(n);
    for (id, text) in texts.into_iter().enumerate() {
        check_length(&text).map_err(|e| e.at(format!("token {id}")))?;
        let kind = match kinds.as_ref().map(|k| k[id]) {
            None => TokenKind::Normal,
            Some(number) => TokenKind::from_ggml(number).ok_or_else(|| {
                Error::new(Kind::Malformed, "tokenizer token types", format!("unknown type {number}"))
                    .at(format!("token {id}"))
            })?,
        };
        let text = if text.is_empty() { format!("[EMPTY_{id}]") } else { text };
        tokens.push(Token { text, score: scores.as_ref().map_or(0.0, |s| s[id]), kind });
    }
    Ok(tokens)
}

/// Refuses a token longer than any in use: every split of every token is looked up, which costs the square of its
/// length.
pub(super) fn check_length(text: &str) -> Result<()> {
    if text.len() <= LONGEST_TOKEN {
        return Ok(());
    }
    let start: String = text.chars().take(24).collect();
    let what = format!("a token of {} bytes, {LONGEST_TOKEN} at most can be", text.len());
    Err(Error::new(Kind::Malformed, "tokenizer vocabulary", what).at(format!("`{}…`", start.escape_debug())))
}

/// Several times the longest runs of blanks and dashes that vocabularies hold.
const LONGEST_TOKEN: usize = 1024;

/// The space that parts a merge is never its first character: a part is not empty.
fn split_merge(rank: usize, merge: &str) -> Result<(String, String)> {
    let first = merge.chars().next().map_or(0, char::len_utf8);
    let at = merge[first..].find(' ').map(|i| first + i).filter(|&i| i + 1 < merge.len());
    let at = at.ok_or_else(|| {
        Error::new(Kind::Malformed, "tokenizer merges", format!("`{merge}` is not two parts"))
            .at(format!("merge {rank}"))
    })?;
    Ok((merge[..at].to_owned(), merge[at + 1..].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(model: &str, tokens: &[&str]) -> Stored {
        Stored {
            model: model.to_owned(),
            tokens: tokens.iter().map(|t| t.to_string()).collect(),
            merges: Some(Vec::new()),
            ..Stored::default()
        }
    }

    #[test]
    fn sentencepiece_defaults_are_those_of_llama_cpp() {
        let spec = stored("llama", &["<unk>", "<s>", "</s>"]).into_spec().expect("valid");
        assert_eq!((spec.unk, spec.bos, spec.eos), (Some(0), Some(1), Some(2)));
        assert!(spec.add_bos && spec.add_space_prefix && !spec.add_eos);
    }

    #[test]
    fn a_byte_level_file_without_ids_has_no_comma_for_an_end() {
        let tokens: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let spec = Stored { tokens, ..stored("gpt2", &[]) }.into_spec().expect("valid");
        assert_eq!((spec.bos, spec.eos, spec.add_bos), (None, None, false));
        assert_eq!(spec.model, TokenizerModel::ByteLevelBpe { pre: "default".to_owned() });
    }

    #[test]
    fn defaults_follow_the_pre_tokenizer() {
        let spec = Stored { pre: Some("llama-bpe".to_owned()), bos: Some(1), ..stored("gpt2", &["a", "b"]) }
            .into_spec()
            .expect("valid");
        assert!(spec.add_bos);
    }

    #[test]
    fn merges_part_at_the_first_space_after_their_first_character() {
        assert_eq!(split_merge(0, "Ġ a").expect("two"), ("Ġ".to_owned(), "a".to_owned()));
        assert_eq!(split_merge(0, "  x").expect("two"), (" ".to_owned(), "x".to_owned()));
        assert_eq!(join_merge(&("a b".to_owned(), "c".to_owned())), "aĠb c");
        for bad in ["", "ab", "a ", " "] {
            assert!(split_merge(3, bad).expect_err("one part").to_string().contains("merge 3"));
        }
    }

    #[test]
    fn duplicates_become_distinct() {
        let tokens =
            ["a", "a", "a_1", "a"].map(|t| Token { text: t.to_owned(), score: 0.0, kind: TokenKind::Normal });
        assert_eq!(distinct_texts(&tokens), ["a", "a_1_", "a_1", "a_3"]);
    }

    #[test]
    fn short_tables_and_unknown_types_are_malformed() {
        let short =
            Stored { kinds: Some(vec![1]), ..stored("gpt2", &["a", "b"]) }.into_spec().expect_err("short");
        assert!(short.to_string().contains("1 token types for 2 tokens"), "{short}");
        let unknown = Stored { kinds: Some(vec![1, 9]), ..stored("gpt2", &["a", "b"]) }
            .into_spec()
            .expect_err("type 9");
        assert!(unknown.to_string().contains("token 1: unknown type 9"), "{unknown}");
        assert_eq!(stored("t5", &["a"]).into_spec().expect_err("t5").kind, Kind::Unsupported);
    }
}
