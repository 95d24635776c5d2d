//! Tokenizers that differ: text becomes other ids, or generation does not end.

use crate::inspect::cause::Cause;
use crate::tokenizer::{Token, TokenKind, TokenizerSpec};

/// What makes two tokenizers differ, most disturbing first.
pub(super) fn causes(original: &TokenizerSpec, found: &TokenizerSpec) -> Vec<Cause> {
    let mut all = Vec::new();
    let mut tell = |id: &'static str, score: f64, sentence: String| all.push(Cause { id, sentence, score });
    let (a, b) = (original, found);
    if a.model != b.model {
        tell("pre-tokenizer", 0.9, format!("the tokenizer is {:?}, {:?} in the original", b.model, a.model));
    }
    if a.merges != b.merges {
        tell("merges", 0.9, format!("{} merges, {} in the original", b.merges.len(), a.merges.len()));
    }
    let real = |spec: &TokenizerSpec| spec.tokens.iter().filter(|t| t.kind != TokenKind::Unused).count();
    if real(a) != real(b) {
        tell("vocabulary-padding", 0.7, format!("{} tokens, {} in the original", real(b), real(a)));
    }
    let pairs = || a.tokens.iter().zip(&b.tokens).enumerate();
    let texts: Vec<usize> = pairs().filter(|(_, (x, y))| x.text != y.text).map(|(id, _)| id).collect();
    if let [first, .., last] = texts[..] {
        let swapped = texts.len() == 2 && a.tokens[first].text == b.tokens[last].text;
        let what = if swapped {
            format!("tokens {first} and {last} changed places")
        } else {
            format!("{} tokens have another text, {first} first", texts.len())
        };
        tell("token-swapped", 0.85, what);
    } else if let [only] = texts[..] {
        tell("token-swapped", 0.85, format!("token {only} has another text"));
    }
    let special = |t: &Token| matches!(t.kind, TokenKind::Control | TokenKind::Unknown);
    let typed = pairs().filter(|(_, (x, y))| x.text == y.text && special(x) != special(y)).count();
    if typed > 0 {
        tell("token-type", 0.8, format!("{typed} tokens are special in one and plain in the other"));
    }
    if (a.bos, a.add_bos) != (b.bos, b.add_bos) {
        tell(
            "bos",
            0.8,
            format!("bos is {:?}, added: {}; {:?}, {} in the original", b.bos, b.add_bos, a.bos, a.add_bos),
        );
    }
    let stop = |spec: &TokenizerSpec| {
        let mut ids = spec.stop_ids();
        ids.sort_unstable();
        ids
    };
    if (a.eos, a.add_eos) != (b.eos, b.add_eos) || stop(a) != stop(b) {
        tell(
            "eos",
            0.8,
            format!("generation ends at {:?}, at {:?} in the original: it may never stop", stop(b), stop(a)),
        );
    }
    if a.chat_template != b.chat_template {
        tell("chat-template", 0.5, "the chat template is another".to_owned());
    }
    all.sort_by(|x, y| y.score.total_cmp(&x.score));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::open;
    use std::path::Path;

    #[test]
    fn each_change_of_a_tokenizer_has_its_id() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models/tiny-qwen2");
        let sound = TokenizerSpec::from_checkpoint(&open(&path).expect("committed")).expect("a tokenizer");
        assert_eq!(causes(&sound, &sound), vec![]);
        type Change = fn(&mut TokenizerSpec);
        let changes: [(Change, &str); 8] = [
            (|t| t.merges.truncate(t.merges.len() - 1), "merges"),
            (|t| t.tokens.swap(3, 4), "token-swapped"),
            (|t| t.tokens[10].kind = TokenKind::Unused, "vocabulary-padding"),
            (|t| t.tokens[3].kind = TokenKind::Control, "token-type"),
            (|t| t.add_bos = !t.add_bos, "bos"),
            (|t| t.eos = Some(5), "eos"),
            (|t| t.chat_template = Some("trimmed".into()), "chat-template"),
            (|t| t.model = crate::tokenizer::TokenizerModel::SentencePiece, "pre-tokenizer"),
        ];
        for (change, id) in changes {
            let mut other = sound.clone();
            change(&mut other);
            let found: Vec<_> = causes(&sound, &other).iter().map(|c| c.id).collect();
            assert!(found.contains(&id), "{id}: {found:?}");
        }
    }
}
