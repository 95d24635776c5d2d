//! Pre-tokenizers: how text is cut before byte-level BPE, by the names of `tokenizer.ggml.pre`.
//!
//! Each step cuts every piece of the step before, at the matches of one regular expression and between them,
//! as llama.cpp does. Matching is linear in the text, so a long run of blanks costs no more than other text.

use crate::error::{Error, Result};
use regex::Regex;
use std::ops::Range;

/// One way to cut text, and what llama.cpp ties to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreTokenizer {
    /// Values of `tokenizer.ggml.pre` that mean this one, the usual one first.
    pub names: &'static [&'static str],
    /// Applied one after the other, each to every piece that the former left.
    pub regexes: &'static [&'static str],
    /// Whether a whole piece that is a token is taken as it is, before any merge.
    pub ignore_merges: bool,
    /// What `tokenizer.ggml.add_bos_token` is where a GGUF does not say.
    pub add_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer that `tokenizer.ggml.pre` names.
    ///
    /// # Errors
    /// Unsupported, naming the name.
    pub fn named(name: &str) -> Result<&'static PreTokenizer> {
        PRE_TOKENIZERS.iter().find(|p| p.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = PRE_TOKENIZERS.iter().map(|p| p.names[0]).collect();
            Error::unsupported("tokenizer.ggml.pre", format!("unknown pre-tokenizer `{name}`"))
                .hint(format!("supported, beside their aliases: {}", known.join(", ")))
        })
    }
}

/// All pre-tokenizers, by the facts of llama.cpp's `llama-vocab.cpp`.
pub const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        regexes: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        regexes: &[DIGIT, GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        regexes: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        regexes: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        regexes: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer { names: &["glm4", "glm5"], regexes: &[LLAMA3], ignore_merges: true, add_bos: false },
    PreTokenizer {
        names: &["falcon"],
        regexes: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-llm"],
        regexes: &[r"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_MARKS, r"\s+$", DEEPSEEK_EAST_ASIAN, r"\p{N}+"],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        regexes: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_EAST_ASIAN, DIGIT],
        ignore_merges: false,
        add_bos: false,
    },
    // What llama.cpp falls back to for a file that names no pre-tokenizer.
    PreTokenizer {
        names: &["default"],
        regexes: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
];

/// GPT-2: contractions in lower case, words, numbers and marks with one leading space, blanks.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Every digit alone.
pub(super) const DIGIT: &str = r"\p{N}";
/// Qwen2: contractions in any case, words with one leading mark, single digits, marks, line breaks, blanks.
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3: as Qwen2, with digits in groups of up to three.
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// (Escaped, because some of these letters have twins that an editor may put in their place.)
/// The cased letters of DeepSeek's list, with one leading blank.
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}]+";
/// Marks, ASCII and full-width, with one leading blank.
const DEEPSEEK_MARKS: &str =
    "\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+";
/// Han, and what DeepSeek counts with it.
const DEEPSEEK_EAST_ASIAN: &str = "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";

/// A compiled list of steps.
pub(super) struct Splitter {
    steps: Vec<Step>,
}

struct Step {
    regex: Regex,
    /// Whether the expression ends with the rule `\s+(?!\S)`.
    blanks_leave_one: bool,
    /// Whether a run of blanks that ends with a line break is matched by a rule of its own.
    breaks_first: bool,
}

impl Splitter {
    /// Compiles the steps of `pre`.
    pub(super) fn new(pre: &PreTokenizer) -> Result<Splitter> {
        let steps = pre.regexes.iter().map(|r| Step::new(r)).collect::<Result<_>>()?;
        Ok(Splitter { steps })
    }

    /// The pieces of `text` in order, as byte ranges that cover it without a gap.
    pub(super) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = std::iter::once(0..text.len()).collect();
        for step in &self.steps {
            let mut finer = Vec::with_capacity(pieces.len());
            for piece in pieces {
                step.split(text, piece, &mut finer);
            }
            pieces = finer;
        }
        pieces.retain(|p| !p.is_empty());
        pieces
    }
}

impl Step {
    // `\s+(?!\S)` needs a lookahead, which a linear-time matcher has not; but it means only that a run of
    // blanks before something leaves its last blank to what follows. So the run is matched whole and
    // shortened afterwards. (A backtracking matcher gives up, in silence, on a run of a million blanks.)
    fn new(pattern: &str) -> Result<Step> {
        let with_rest = r"|\s+(?!\S)|\s+";
        let alone = r"|\s+(?!\S)";
        let stem = pattern.strip_suffix(with_rest).or_else(|| pattern.strip_suffix(alone));
        let linear = stem.map_or_else(|| pattern.to_owned(), |s| format!(r"{s}|\s+"));
        let regex = Regex::new(&with_tables_of_llama_cpp(&linear)).map_err(|e| {
            Error::unsupported("pre-tokenizer", format!("regular expression `{pattern}`: {e}"))
        })?;
        Ok(Step { regex, blanks_leave_one: stem.is_some(), breaks_first: pattern.contains(r"\s*[\r\n]+") })
    }

    fn split(&self, text: &str, piece: Range<usize>, out: &mut Vec<Range<usize>>) {
        // Within the slice, so that the end of a piece counts as the end of the text.
        let inside = &text[piece.clone()];
        let mut done = 0;
        while let Some(found) = self.regex.find_at(inside, done) {
            let end = self.end_of(inside, found.range());
            if found.start() > done {
                out.push(piece.start + done..piece.start + found.start());
            }
            out.push(piece.start + found.start()..piece.start + end);
            done = end;
        }
        if done < inside.len() {
            out.push(piece.start + done..piece.end);
        }
    }

    fn end_of(&self, inside: &str, found: Range<usize>) -> usize {
        let run = &inside[found.clone()];
        let is_blank_run = self.blanks_leave_one
            && run.chars().all(char::is_whitespace)
            && !(self.breaks_first && run.ends_with(['\r', '\n']));
        match run.char_indices().next_back() {
            Some((last, _)) if is_blank_run && last > 0 && found.end < inside.len() => found.start + last,
            _ => found.end,
        }
    }
}

/// What follows the list of an expression whose listed blanks do not count.
pub(super) const BUT_NO_BLANK: &str = r"&&[^\s]]+";

/// The expression as llama.cpp matches it, in the words of every regular expression engine: in one without categories
/// a blank beyond ASCII is no member of a list, though it lies in one of its ranges.
pub(super) fn without_listed_blanks(pattern: &str) -> String {
    if pattern.is_ascii() || pattern.contains(r"\p{") {
        return pattern.to_owned();
    }
    pattern.replace("]+", BUT_NO_BLANK)
}

/// Character classes as llama.cpp has them. Categories are those of Unicode 15.1: a script that is younger is
/// neither letter nor number.
fn with_tables_of_llama_cpp(pattern: &str) -> String {
    ["L", "N", "P"].iter().fold(without_listed_blanks(pattern), |p, category| {
        p.replace(&format!(r"\p{{{category}}}"), &format!(r"[\p{{{category}}}&&\p{{Age=15.1}}]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn cut<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
        let splitter = Splitter::new(PreTokenizer::named(pre).expect("known")).expect("compiles");
        splitter.split(text).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn names_are_unique_and_all_compile() {
        let mut seen = HashSet::new();
        for pre in PRE_TOKENIZERS {
            Splitter::new(pre).expect("compiles");
            assert!(pre.names.iter().all(|n| seen.insert(*n)));
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let error = PreTokenizer::named("qwen9").expect_err("unknown");
        assert_eq!(error.kind, crate::Kind::Unsupported);
        assert!(error.to_string().contains("`qwen9`"), "{error}");
    }

    #[test]
    fn blanks_leave_their_last_to_the_next_word() {
        assert_eq!(cut("gpt-2", "a   b \n"), ["a", "  ", " b", " \n"]);
        assert_eq!(cut("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(cut("qwen2", "a\n\n  b"), ["a", "\n\n", " ", " b"]);
        assert_eq!(cut("qwen2", "a \n\t b"), ["a", " \n", "\t", " b"]);
        assert_eq!(cut("qwen2", "\tb\u{a0}\u{a0}c"), ["\tb", "\u{a0}", "\u{a0}c"]);
    }

    #[test]
    fn letters_are_those_of_unicode_15() {
        // U+1E4D0 is a letter since 15.0, U+14280 since 16.0.
        assert_eq!(cut("gpt-2", "!\u{1e4d0}[a"), ["!", "\u{1e4d0}", "[", "a"]);
        assert_eq!(cut("gpt-2", "!\u{14280}[a"), ["!\u{14280}[", "a"]);
    }

    #[test]
    fn digits_go_one_by_one_or_in_threes() {
        assert_eq!(cut("gpt-2", "in 12345"), ["in", " 12345"]);
        assert_eq!(cut("smollm", "in 123"), ["in", " ", "1", "2", "3"]);
        assert_eq!(cut("qwen2", "in 123"), ["in", " ", "1", "2", "3"]);
        assert_eq!(cut("llama-bpe", "12345"), ["123", "45"]);
        assert_eq!(cut("falcon", "12345!"), ["123", "45", "!"]);
        assert_eq!(cut("default", " 1234"), [" ", "123", "4"]);
    }

    #[test]
    fn contractions_follow_the_case_rule_of_each() {
        assert_eq!(cut("gpt-2", "it's IT'S"), ["it", "'s", " IT", "'", "S"]);
        assert_eq!(cut("qwen2", "it's IT'S we'LL"), ["it", "'s", " IT", "'S", " we", "'LL"]);
    }

    #[test]
    fn deepseek_cuts_lines_letters_marks_and_han() {
        assert_eq!(cut("deepseek-llm", "Hi 世界!\n x1"), ["Hi", " ", "世界", "!", "\n", " x", "1"]);
        assert_eq!(cut("deepseek-llm", "  \u{3000}"), ["  \u{3000}"]);
        assert_eq!(cut("deepseek-coder", "世\u{3000}\u{3000}界"), ["世", "\u{3000}", "\u{3000}", "界"]);
        assert_eq!(cut("deepseek-coder", "Hi 世界!\n x12"), ["Hi", " ", "世界", "!", "\n", " x", "1", "2"]);
    }

    #[test]
    fn a_run_of_blanks_longer_than_a_backtracker_stands_is_cut_right() {
        let text = format!("{}x", " ".repeat(1_200_000));
        for pre in ["gpt-2", "qwen2", "smollm"] {
            let pieces = cut(pre, &text);
            assert_eq!((pieces.len(), pieces[0].len(), pieces[1]), (2, 1_199_999, " x"), "{pre}");
        }
    }
}
