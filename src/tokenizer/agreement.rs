//! One model, one tokenizer: its HF folder, GGUF and APR forms give equal specs and equal ids, and those are
//! the ids that the `tokenizers` crate gives for the same `tokenizer.json`.

use super::hf::HfTokenizerFiles;
use super::{SPACE, Token, TokenKind, Tokenizer, TokenizerModel, TokenizerSpec};
use crate::formats::{self, AprHeader, GgufHeader, HfFolder};
use crate::{Kind, Result};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What is hard to cut: blanks of every kind, digits, contractions, scripts, joined emoji, code, special
/// tokens, control characters.
const HARD: &[&str] = &[
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\n\n",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "hello",
    " hello",
    "the",
    " the",
    "a",
    " a",
    "Hello",
    "isn't",
    "IT'S",
    "we'll",
    "I'D",
    "'Re",
    "'",
    "''",
    "\u{2019}s",
    "1",
    "12",
    "123",
    "4567",
    "3.14",
    "1,000",
    "٣",
    "½",
    "Ⅷ",
    "日本語",
    "中文",
    "한국어",
    "ไทย",
    "हिन्दी",
    "مرحبا",
    "שלום",
    "🙂",
    "👩\u{200d}👩\u{200d}👧",
    "🇩🇪",
    "👍🏽",
    "é",
    "e\u{301}",
    "ﬁ",
    "ß",
    "İ",
    "ǅ",
    "def f(x):\n    return x**2\n",
    "{\"a\": [1]}",
    "// c\n",
    "x_y",
    "--",
    "...",
    "?!",
    "$5",
    "100%",
    "\\n",
    "\0",
    "\u{1}",
    "\u{7f}",
    "\u{200b}",
    "\u{feff}",
    "\u{fffd}",
    "\u{e001}",
    "<|endoftext|>",
    "<|im_end|>",
    "<tool>",
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "<|im",
    "▁",
    "Ġ",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(HARD).prop_map(str::to_owned),
        1 => prop::char::range('\0', '\u{6ff}').prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|p| p.concat())
}

fn token(text: &str, kind: TokenKind) -> Token {
    Token { text: text.to_owned(), score: 0.0, kind }
}

/// All bytes, a few merges, two control tokens and one added token, padded to a multiple of 8.
fn byte_level(pre: &str) -> TokenizerSpec {
    let pairs = "h e|l l|he ll|hell o|Ġ hello|t h|th e|Ġ the|Ġ a|1 2|12 3|4 5|Ċ Ċ|Ġ Ġ|ĠĠ ĠĠ|' s|ã ģ|Ä Ĳ|. .|i s|n ' |is n|' t|ð Ł";
    let merges: Vec<(String, String)> = pairs
        .split('|')
        .filter_map(|p| p.trim_end().split_once(' '))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    let mut tokens: Vec<Token> =
        (0..=255u8).map(|b| token(&super::alphabet::to_char(b).to_string(), TokenKind::Normal)).collect();
    tokens.extend(merges.iter().map(|(a, b)| token(&format!("{a}{b}"), TokenKind::Normal)));
    let eos = tokens.len() as u32;
    tokens.push(token("<|endoftext|>", TokenKind::Control));
    tokens.push(token("<|im_end|>", TokenKind::Control));
    tokens.push(token("<tool>", TokenKind::UserDefined));
    while !tokens.len().is_multiple_of(8) {
        tokens.push(token(&format!("[PAD{}]", tokens.len()), TokenKind::Unused));
    }
    TokenizerSpec {
        model: TokenizerModel::ByteLevelBpe { pre: pre.to_owned() },
        tokens,
        merges,
        bos: Some(eos),
        eos: Some(eos),
        more_eos: vec![eos + 1],
        unk: None,
        pad: Some(eos),
        add_bos: true,
        add_eos: false,
        add_space_prefix: false,
        nfc: false,
        chat_template: Some("{{ messages[0].content }}".to_owned()),
    }
}

/// Bytes, pieces with scores in falling order, then characters; as a converted SentencePiece vocabulary.
fn sentence_piece(space_prefix: bool) -> TokenizerSpec {
    let mut tokens = vec![
        token("<unk>", TokenKind::Unknown),
        token("<s>", TokenKind::Control),
        token("</s>", TokenKind::Control),
    ];
    tokens.extend((0..=255u8).map(|b| token(&super::spm::byte_token(b), TokenKind::Byte)));
    let pieces = [
        "▁t", "he", "▁a", "ll", "▁the", "el", "hell", "lo", "▁h", "hello", "▁hello", "is", "n'", "12",
        "isn'", "日本",
    ];
    let best_first = (0u16..).zip(pieces).map(|(rank, p)| Token {
        text: p.to_owned(),
        score: -f32::from(rank),
        kind: TokenKind::Normal,
    });
    tokens.extend(best_first);
    tokens.extend("▁thelloaisn'123日本.,é".chars().map(String::from).fold(
        Vec::<Token>::new(),
        |mut seen, c| {
            if !seen.iter().any(|t| t.text == c) {
                seen.push(token(&c, TokenKind::Normal));
            }
            seen
        },
    ));
    TokenizerSpec {
        model: TokenizerModel::SentencePiece,
        tokens,
        merges: Vec::new(),
        bos: Some(1),
        eos: Some(2),
        more_eos: Vec::new(),
        unk: Some(0),
        pad: None,
        add_bos: true,
        add_eos: false,
        add_space_prefix: space_prefix,
        nfc: false,
        chat_template: None,
    }
}

fn folder(files: HfTokenizerFiles, vocab_size: usize) -> HfFolder {
    let object = |key: &str, value: Json| Map::from_iter([(key.to_owned(), value)]);
    HfFolder {
        config: object("vocab_size", json!(vocab_size)),
        generation_config: Some(object("eos_token_id", json!(files.eos_token_ids))),
        tokenizer_json: Some(files.tokenizer_json.to_string().into_bytes().into()),
        tokenizer_config: Some(files.tokenizer_config),
        ..HfFolder::default()
    }
}

/// The spec after a stay in each container.
fn travelled(spec: &TokenizerSpec) -> Result<[TokenizerSpec; 3]> {
    let gguf = GgufHeader { version: 3, alignment: 32, metadata: spec.to_gguf() };
    let apr = AprHeader { version: (2, 0), flags: 0, metadata: spec.to_apr(), footer: None };
    Ok([
        TokenizerSpec::from_gguf(&gguf)?,
        TokenizerSpec::from_apr(&apr)?,
        TokenizerSpec::from_hf(&folder(spec.to_hf()?, spec.tokens.len()))?,
    ])
}

/// The tokenizer crate's own reading of a `tokenizer.json`, without its normalizer to NFC.
fn peer(json: &Json) -> tokenizers::Tokenizer {
    let mut json = json.clone();
    if json["normalizer"]["type"] == "NFC" {
        json["normalizer"] = Json::Null;
    }
    tokenizers::Tokenizer::from_bytes(json.to_string()).expect("the crate reads it")
}

fn peer_ids(peer: &tokenizers::Tokenizer, text: &str, add_special: bool) -> Vec<u32> {
    peer.encode_fast(text, add_special).expect("the crate encodes it").get_ids().to_vec()
}

/// A tokenizer with the crate's for the same `tokenizer.json`.
type Pair = (Tokenizer, tokenizers::Tokenizer);

fn pair(spec: TokenizerSpec) -> Pair {
    let json = spec.to_hf().expect("can be written").tokenizer_json;
    (Tokenizer::new(spec).expect("is valid"), peer(&json))
}

static MADE_UP: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let pres = [
        "gpt-2",
        "smollm",
        "qwen2",
        "llama-bpe",
        "dbrx",
        "falcon",
        "deepseek-llm",
        "deepseek-coder",
        "default",
    ];
    pres.map(byte_level).into_iter().chain([true, false].map(sentence_piece)).map(pair).collect()
});

/// The folders of `oracle/models`.
fn committed_models() -> Vec<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models");
    let entries = std::fs::read_dir(models).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.join("tokenizer.json").is_file()).collect()
}

static COMMITTED: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let read = |path: &PathBuf| {
        let json = std::fs::read(path.join("tokenizer.json")).expect("is a file");
        let ours = Tokenizer::from_checkpoint(&formats::open(path).expect("opens")).expect("is valid");
        (ours, peer(&serde_json::from_slice(&json).expect("is JSON")))
    };
    committed_models().iter().map(read).collect()
});

fn agrees((ours, peer): &Pair, text: &str) -> std::result::Result<(), TestCaseError> {
    for add_special in [true, false] {
        let ids = ours.encode(text, add_special).expect("encodes");
        prop_assert_eq!(&ids, &peer_ids(peer, text, add_special), "{:?} of {:?}", text, ours.spec().model);
    }
    let ids = ours.encode(text, false).expect("encodes");
    prop_assert_eq!(ours.decode(&ids, false), peer.decode(&ids, false).expect("the crate decodes it"));
    prop_assert_eq!(ours.decode(&ids, true), peer.decode(&ids, true).expect("the crate decodes it"));
    let bytes = ours.decode_bytes(&ids, false);
    match ours.spec().model {
        TokenizerModel::ByteLevelBpe { .. } => prop_assert_eq!(bytes, text.as_bytes()),
        // SentencePiece cannot tell its visible space from a space.
        TokenizerModel::SentencePiece if ours.spec().add_space_prefix => {}
        TokenizerModel::SentencePiece => prop_assert_eq!(bytes, text.replace(SPACE, " ").into_bytes()),
    }
    Ok(())
}

/// A listed blank behind others: the crate must be told that lists hold no blanks beyond ASCII.
#[test]
fn blanks_beyond_ascii_are_cut_alike() {
    for pair in MADE_UP.iter() {
        for text in ["  \u{3000}", "\u{3000}\u{3000}", "a \u{3000}b", "世 \u{2003}界\u{1680} \u{3000}。"] {
            agrees(pair, text).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_and_text_are_those_of_the_crate(text in text()) {
        for pair in MADE_UP.iter().chain(COMMITTED.iter()) {
            agrees(pair, &text)?;
        }
    }

    #[test]
    fn a_stream_of_any_ids_is_the_decoding_of_all(ids in prop::collection::vec(0u32..400, 0..24), skip: bool) {
        for (tokenizer, peer) in MADE_UP.iter() {
            let ids: Vec<u32> = ids.iter().copied().filter(|&id| (id as usize) < tokenizer.vocab_size()).collect();
            let mut stream = tokenizer.stream(skip);
            let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
            streamed.extend(stream.finish());
            prop_assert_eq!(&streamed, &peer.decode(&ids, skip).expect("the crate decodes it"));
            prop_assert_eq!(&streamed, &tokenizer.decode(&ids, skip));
        }
    }
}

#[test]
fn every_hard_string_agrees_alone() {
    for pair in MADE_UP.iter().chain(COMMITTED.iter()) {
        for text in HARD {
            agrees(pair, text).expect("agrees");
        }
    }
}

#[test]
fn a_spec_survives_every_container() {
    for (tokenizer, _) in MADE_UP.iter().chain(COMMITTED.iter()) {
        for back in travelled(tokenizer.spec()).expect("is read back") {
            assert_eq!(&back, tokenizer.spec());
        }
    }
}

#[test]
fn a_long_word_takes_no_longer_than_long_text() {
    let (ours, peer) = pair(byte_level("qwen2"));
    let word = "l".repeat(50_000);
    assert_eq!(ours.encode(&word, false).expect("encodes"), peer_ids(&peer, &word, false));
    let spm = Tokenizer::new(sentence_piece(true)).expect("is valid");
    let ll = spm.id("ll").expect("is a token");
    assert_eq!(spm.encode(&word, false).expect("encodes")[1..], vec![ll; 25_000]);
}

#[test]
fn equal_scores_join_from_the_left_and_unknown_characters_become_bytes() {
    let spm = Tokenizer::new(sentence_piece(true)).expect("is valid");
    let pieces = |text: &str| -> Vec<String> {
        spm.encode(text, true)
            .expect("encodes")
            .iter()
            .map(|&id| spm.piece(id).expect("is a token").to_owned())
            .collect()
    };
    assert_eq!(pieces("lll"), ["<s>", "▁", "ll", "l"]);
    assert_eq!(pieces("é🙂"), ["<s>", "▁", "é", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]);
    // A text after a special token is prefixed again; an empty one is not.
    assert_eq!(pieces("hello</s>hello"), ["<s>", "▁hello", "</s>", "▁hello"]);
    assert_eq!(pieces(""), ["<s>"]);
}

#[test]
fn one_leading_space_is_taken_and_bytes_wait_for_their_character() {
    let spm = Tokenizer::new(sentence_piece(true)).expect("is valid");
    let ids = spm.encode("  hello🙂", true).expect("encodes");
    assert_eq!(spm.decode(&ids, true), "  hello🙂");
    let mut stream = spm.stream(true);
    let parts: Vec<Option<String>> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(parts.last(), Some(&None));
    assert_eq!(stream.finish().as_deref(), Some("🙂"));
    let bytes = Tokenizer::new(byte_level("gpt-2")).expect("is valid");
    assert_eq!(bytes.decode(&[0xF0, 0x9F], false), "\u{fffd}");
    assert_eq!(bytes.decode_bytes(&[0xF0, 0x9F], false), [0xF0, 0x9F]);
}

#[test]
fn an_id_outside_the_vocabulary_is_nothing() {
    let tokenizer = Tokenizer::new(byte_level("gpt-2")).expect("is valid");
    assert_eq!(tokenizer.piece(u32::MAX), None);
    assert_eq!(tokenizer.decode(&[u32::MAX, 97], false), "a");
    assert_eq!(tokenizer.stream(false).push(u32::MAX), None);
}

#[test]
fn a_byte_without_a_token_is_left_out_and_parts_its_neighbours() {
    let mut spec = byte_level("gpt-2");
    spec.tokens[6] = token("[PAD6]", TokenKind::Unused);
    let tokenizer = Tokenizer::new(spec).expect("is valid");
    let ids = |text: &str| tokenizer.encode(text, false).expect("encodes");
    assert_eq!(ids("hello\u{6}"), ids("hello"));
    assert_eq!(ids("1\u{6}2"), [ids("1"), ids("2")].concat());
    assert_ne!(ids("1\u{6}2"), ids("12"));
}

type Spoil = fn(&mut TokenizerSpec);

#[test]
fn a_spec_that_contradicts_itself_is_malformed() {
    let twice = |spec: &mut TokenizerSpec| spec.tokens[5].text = "a".to_owned();
    let outside = |spec: &mut TokenizerSpec| spec.eos = Some(9_999);
    let no_bos = |spec: &mut TokenizerSpec| spec.bos = None;
    let merge = |spec: &mut TokenizerSpec| spec.merges.push(("a".to_owned(), "zz".to_owned()));
    let cases: [(Spoil, &str); 4] = [
        (twice, "share the text `a`"),
        (outside, "eos token is 9999"),
        (no_bos, "none is named"),
        (merge, "`zz` is not in the vocabulary"),
    ];
    for (spoil, said) in cases {
        let mut spec = byte_level("gpt-2");
        spoil(&mut spec);
        let error = Tokenizer::new(spec).err().expect("is refused");
        assert_eq!(error.kind, Kind::Malformed);
        assert!(error.to_string().contains(said), "{error}");
    }
}
