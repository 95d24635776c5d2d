//! Special tokens in text: found before anything else, the longest first, as llama.cpp finds them.
//!
//! Some texts are special though a file calls them ordinary (`</s>` in Qwen's vocabulary): llama.cpp knows
//! them by their text, and the ids of a model must not depend on its container.

use super::{Token, TokenKind};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// A stretch of text between special tokens, or one of those.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// A special token.
    Special(u32),
    /// Ordinary text, never empty.
    Text(Range<usize>),
}

/// The special tokens of a vocabulary, ready to be found.
pub(super) struct SpecialTokens {
    by_text: HashMap<Box<[u8]>, u32>,
    /// Byte lengths of the special tokens that start with this byte, the longest first.
    lengths: Vec<Vec<usize>>,
}

impl SpecialTokens {
    pub(super) fn new(tokens: &[Token]) -> SpecialTokens {
        let mut by_text = HashMap::new();
        let mut lengths = vec![Vec::new(); 256];
        for (id, token) in (0u32..).zip(tokens) {
            let bytes = token.text.as_bytes();
            if let (true, Some(&first)) = (is_special(token), bytes.first()) {
                by_text.insert(bytes.into(), id);
                lengths[first as usize].push(bytes.len());
            }
        }
        for of_byte in &mut lengths {
            of_byte.sort_unstable_by(|a, b| b.cmp(a));
            of_byte.dedup();
        }
        SpecialTokens { by_text, lengths }
    }

    /// `text` as special tokens and the text between them, in order.
    pub(super) fn partition(&self, text: &str) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        let mut done = 0;
        for (start, (end, id)) in self.taken(text.as_bytes()) {
            if start > done {
                fragments.push(Fragment::Text(done..start));
            }
            fragments.push(Fragment::Special(id));
            done = end;
        }
        if done < text.len() {
            fragments.push(Fragment::Text(done..text.len()));
        }
        fragments
    }

    /// Start -> (end, id) of every special token in the text. Where two overlap the longer one wins, and
    /// among occurrences of one token the leftmost: each token cuts what the longer ones left whole.
    fn taken(&self, text: &[u8]) -> BTreeMap<usize, (usize, u32)> {
        let mut found = Vec::new();
        for (start, &byte) in text.iter().enumerate() {
            for &len in &self.lengths[byte as usize] {
                if let Some(&id) = text.get(start..start + len).and_then(|t| self.by_text.get(t)) {
                    found.push((len, id, start));
                }
            }
        }
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut taken: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
        for (len, id, start) in found {
            let end = start + len;
            let before_is_clear = taken.range(..end).next_back().is_none_or(|(_, &(e, _))| e <= start);
            if before_is_clear {
                taken.insert(start, (end, id));
            }
        }
        taken
    }
}

/// Whether a token is matched before the text is cut.
fn is_special(token: &Token) -> bool {
    match token.kind {
        TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown => true,
        TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => {
            ENDS.contains(&token.text.as_str())
                || FILL_IN.iter().any(|class| class.texts.contains(&token.text.as_str()))
        }
    }
}

/// The ids that end a generation by llama.cpp's reckoning: tokens known by their text, and the padding,
/// repository and file marks of fill-in-the-middle vocabularies. Ascending.
pub(super) fn end_of_generation(tokens: &[Token]) -> Vec<u32> {
    let mut ids: Vec<u32> =
        (0u32..).zip(tokens).filter(|(_, t)| ENDS.contains(&t.text.as_str())).map(|(id, _)| id).collect();
    for class in FILL_IN.iter().filter(|c| c.ends) {
        // llama.cpp takes one token of a class, whichever its hash table gives first; here it is the lowest id.
        let first = (0u32..).zip(tokens).find(|(_, t)| class.texts.contains(&t.text.as_str()));
        ids.extend(first.map(|(id, _)| id));
    }
    let has = |text: &str| tokens.iter().any(|t| t.text == text);
    // Vocabularies of the harmony kind use `<|end|>` between messages, and end with another token.
    let calls = has("<|call|>") || has("<|calls|>");
    if calls && (has("<|return|>") || has("<|flush|>")) {
        ids.retain(|&id| tokens[id as usize].text != "<|end|>");
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Tokens that end a generation wherever they occur.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// One part of the fill-in-the-middle vocabulary, under the names models give it.
struct FillIn {
    texts: &'static [&'static str],
    /// Whether a generation ends there.
    ends: bool,
}

const FILL_IN: &[FillIn] = &[
    FillIn {
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        ends: false,
    },
    FillIn {
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        ends: false,
    },
    FillIn {
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        ends: false,
    },
    FillIn { texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"], ends: true },
    FillIn { texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"], ends: true },
    FillIn { texts: &["<|file_sep|>"], ends: true },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, kind: TokenKind) -> Token {
        Token { text: text.to_owned(), score: 0.0, kind }
    }

    #[test]
    fn the_longer_token_wins_and_the_rest_is_text() {
        let tokens = [
            token("ab", TokenKind::Control),
            token("bcd", TokenKind::UserDefined),
            token("x", TokenKind::Normal),
        ];
        let special = SpecialTokens::new(&tokens);
        assert_eq!(
            special.partition("abcd-abx"),
            [
                Fragment::Text(0..1),
                Fragment::Special(1),
                Fragment::Text(4..5),
                Fragment::Special(0),
                Fragment::Text(7..8)
            ]
        );
        assert_eq!(special.partition(""), []);
    }

    #[test]
    fn a_run_is_cut_from_the_left_by_its_longest_token() {
        let tokens = [token("\n", TokenKind::UserDefined), token("\n\n\n", TokenKind::UserDefined)];
        let special = SpecialTokens::new(&tokens);
        assert_eq!(special.partition("\n\n\n\n\n"), [1, 0, 0].map(Fragment::Special));
    }

    #[test]
    fn an_end_mark_is_special_though_the_file_calls_it_ordinary() {
        let tokens = [token("</s>", TokenKind::Normal), token("<b>", TokenKind::Normal)];
        assert_eq!(
            SpecialTokens::new(&tokens).partition("</s><b>"),
            [Fragment::Special(0), Fragment::Text(4..7)]
        );
    }

    #[test]
    fn ends_are_known_by_text() {
        let tokens = ["<reponame>", "a", "<|im_end|>", "<|repo_name|>"].map(|t| token(t, TokenKind::Control));
        assert_eq!(end_of_generation(&tokens), [0, 2]);
        let harmony = ["<|end|>", "<|return|>", "<|call|>"].map(|t| token(t, TokenKind::Control));
        assert_eq!(end_of_generation(&harmony), [1, 2]);
    }
}
