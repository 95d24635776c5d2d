//! Scores for a SentencePiece vocabulary whose `tokenizer.json` has a list of merges instead.
//!
//! Such a list is every split of every piece into two tokens, the best piece first. The score of a piece is
//! minus its place in that order. A list of another kind has no scores, and is refused.

use super::super::{Token, TokenKind};
use super::unsupported;
use crate::error::Result;
use std::collections::{HashMap, HashSet};

/// Writes a score into every token that a merge makes; the others keep 0.
pub(super) fn assign(tokens: &mut [Token], merges: &[(String, String)]) -> Result<()> {
    let ids: HashMap<String, usize> = tokens.iter().enumerate().map(|(id, t)| (t.text.clone(), id)).collect();
    let mut splits: HashMap<usize, HashSet<usize>> = HashMap::new();
    let mut last = None;
    let mut rank = 0u32;
    for (left, right) in merges {
        let piece = format!("{left}{right}");
        let id = *ids.get(&piece).ok_or_else(|| {
            unsupported("model.merges", format!("`{left}` + `{right}` is not in the vocabulary"))
        })?;
        if last != Some(id) {
            if splits.contains_key(&id) {
                return Err(not_by_score(&format!("the merges that make `{piece}` do not stand together")));
            }
            #[allow(clippy::cast_precision_loss)] // ranks stay below 2^22
            let score = 0.0 - rank as f32;
            tokens[id].score = score;
            rank += 1;
            last = Some(id);
        }
        splits.entry(id).or_default().insert(left.len());
    }
    // Joining by score knows no list, so a missing split would be made there and not here.
    for (id, token) in tokens.iter().enumerate() {
        let listed = splits.get(&id);
        let found_before_merging = matches!(
            token.kind,
            TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown | TokenKind::Unused
        );
        if found_before_merging && listed.is_none() {
            continue;
        }
        let missing = token.text.char_indices().map(|(at, _)| at).skip(1).find(|&at| {
            let (left, right) = token.text.split_at(at);
            ids.contains_key(left) && ids.contains_key(right) && !listed.is_some_and(|l| l.contains(&at))
        });
        if let Some(at) = missing {
            let (left, right) = token.text.split_at(at);
            return Err(not_by_score(&format!(
                "`{left}` + `{right}` is not among the merges, though `{}` is a token",
                token.text
            )));
        }
    }
    Ok(())
}

/// Every split of every piece, the best score first: the list that [`assign`] reads back in the same order.
pub(super) fn merges(tokens: &[Token]) -> Vec<(&str, &str)> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, t)| (t.text.as_str(), id)).collect();
    let mut pieces: Vec<(usize, &Token)> = tokens
        .iter()
        .enumerate()
        .filter(|(_, t)| matches!(t.kind, TokenKind::Normal | TokenKind::Byte))
        .collect();
    // -0.0 and 0.0 are one score.
    pieces.sort_by(|(a, x), (b, y)| (y.score + 0.0).total_cmp(&(x.score + 0.0)).then(a.cmp(b)));
    let mut merges = Vec::new();
    for (_, token) in pieces {
        let mut splits: Vec<(usize, usize, (&str, &str))> = Vec::new();
        for (at, _) in token.text.char_indices().skip(1) {
            let (left, right) = token.text.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                splits.push((l, r, (left, right)));
            }
        }
        splits.sort_unstable_by_key(|&(l, r, _)| (l, r));
        merges.extend(splits.into_iter().map(|(_, _, pair)| pair));
    }
    merges
}

fn not_by_score(why: &str) -> crate::Error {
    unsupported("model.merges", format!("the merges are not those of a SentencePiece vocabulary: {why}"))
}
