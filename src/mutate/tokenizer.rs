//! Tokenizers that give other ids, or chats that are written otherwise: the spec is changed and written again by the
//! container's own writer.

use super::draft::Draft;
use super::{Done, Plant};
use crate::Result;
use crate::formats::Container;
use crate::stats::Dice;
use crate::tokenizer::{PRE_TOKENIZERS, PreTokenizer, Token, TokenKind, TokenizerModel, TokenizerSpec};
use serde_json::Value as Json;

/// Changes the tokenizer by `change`, which says what it did; `None` leaves it.
fn change(
    draft: &mut Draft,
    change: impl FnOnce(&mut TokenizerSpec) -> Option<(&'static str, String)>,
) -> Result<Option<Done>> {
    let mut spec = TokenizerSpec::from_checkpoint(draft.original())?;
    let before = spec.clone();
    let Some((target, what)) = change(&mut spec) else { return Ok(None) };
    if spec == before {
        return Ok(None);
    }
    write(draft, &spec)?;
    Done::of(target, what)
}

fn write(draft: &mut Draft, spec: &TokenizerSpec) -> Result<()> {
    match &mut draft.side {
        Container::Gguf(header) => {
            header.metadata.retain(|(key, _)| !key.starts_with("tokenizer."));
            header.metadata.extend(spec.to_gguf());
        }
        Container::Apr(header) => {
            header.metadata.retain(|key, _| !key.starts_with("tokenizer.") && key != "chat_template");
            header.metadata.extend(spec.to_apr());
        }
        Container::Hf(folder) => {
            let files = spec.to_hf()?;
            folder.tokenizer_json = Some(files.tokenizer_json.to_string().into_bytes().into());
            folder.tokenizer_config = Some(files.tokenizer_config);
            folder.chat_template = None;
            let ends: Json = files.eos_token_ids.into();
            let generation = folder.generation_config.get_or_insert_default();
            generation.insert("eos_token_id".into(), ends.clone());
            generation.insert("bos_token_id".into(), spec.bos.map_or(Json::Null, Json::from));
            folder.config.insert("eos_token_id".into(), ends);
            folder.config.insert("bos_token_id".into(), spec.bos.map_or(Json::Null, Json::from));
        }
    }
    Ok(())
}

/// Ids of tokens of this kind that are longer than a character.
fn of_kind(spec: &TokenizerSpec, kind: TokenKind) -> Vec<usize> {
    let long = |t: &Token| t.kind == kind && t.text.chars().count() > 1;
    spec.tokens.iter().enumerate().filter(|(_, t)| long(t)).map(|(id, _)| id).collect()
}

/// BOS lost where it is added, added where it is not.
pub(super) const BOS_RULE: Plant = |draft, _| {
    change(draft, |spec| {
        spec.add_bos = !spec.add_bos;
        if spec.add_bos && spec.bos.is_none() {
            spec.bos = Some(0);
        }
        Some(("tokenizer add_bos", format!("add_bos became {}", spec.add_bos)))
    })
};

/// BOS added by the tokenizer and by the chat template.
pub(super) const BOS_TWICE: Plant = |draft, _| {
    change(draft, |spec| {
        spec.add_bos = true;
        spec.bos = spec.bos.or(Some(0));
        let template = spec.chat_template.take().unwrap_or_else(|| CHATML.to_owned());
        spec.chat_template = Some(format!("{{{{ bos_token }}}}{template}"));
        Some(("tokenizer chat_template", "the chat template begins with a second BOS".to_owned()))
    })
};

/// A template that belongs to other models.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}";

/// Another token as BOS: 11 where none is said, as a reader once had it.
pub(super) const BOS_WRONG: Plant = |draft, dice| {
    change(draft, |spec| {
        let other = match spec.bos {
            None => 11,
            Some(bos) => other_id(spec, dice, bos),
        };
        let what = format!("BOS {:?} became {other}", spec.bos);
        spec.bos = Some(other);
        Some(("tokenizer bos", what))
    })
};

/// Another token as EOS, or one of several lost.
pub(super) const EOS_WRONG: Plant = |draft, dice| {
    change(draft, |spec| {
        if !spec.more_eos.is_empty() && dice.below(2) == 0 {
            let lost = spec.more_eos.remove(dice.below(spec.more_eos.len()));
            return Some(("tokenizer stop ids", format!("{lost} no longer ends a generation")));
        }
        let eos = spec.eos?;
        let other = other_id(spec, dice, eos);
        spec.eos = Some(other);
        Some(("tokenizer eos", format!("EOS {eos} became {other}")))
    })
};

fn other_id(spec: &TokenizerSpec, dice: &mut Dice, not: u32) -> u32 {
    let ids = of_kind(spec, TokenKind::Normal);
    let found = dice.pick(&ids).copied().unwrap_or(0) as u32;
    if found == not { not.wrapping_add(1) } else { found }
}

/// The last tenth of the merge rules gone; in a vocabulary that merges by score, its scores.
pub(super) const MERGES: Plant = |draft, _| {
    change(draft, |spec| match &spec.model {
        TokenizerModel::ByteLevelBpe { .. } => {
            let (all, kept) = (spec.merges.len(), spec.merges.len() * 9 / 10);
            spec.merges.truncate(kept);
            Some(("merge rule", format!("{kept} of {all} merge rules are left")))
        }
        TokenizerModel::SentencePiece => {
            let mut scores: Vec<(usize, f32)> =
                of_kind(spec, TokenKind::Normal).into_iter().map(|id| (id, spec.tokens[id].score)).collect();
            let turned: Vec<f32> = scores.iter().rev().map(|(_, score)| *score).collect();
            scores.iter_mut().zip(turned).for_each(|(pair, score)| pair.1 = score);
            scores.into_iter().for_each(|(id, score)| spec.tokens[id].score = score);
            Some(("token scores", "the scores of the pieces are in reverse order".to_owned()))
        }
    })
};

/// Two tokens in each other's place.
pub(super) const SWAPPED: Plant = |draft, dice| {
    change(draft, |spec| {
        let ids = of_kind(spec, TokenKind::Normal);
        let (a, b) = (*dice.pick(&ids)?, *dice.pick(&ids)?);
        spec.tokens.swap(a, b);
        Some(("vocabulary entry", format!("tokens {a} and {b} are in each other's place")))
    })
};

/// Text cut in another way before it is merged.
pub(super) const PRE: Plant = |draft, dice| {
    change(draft, |spec| match &mut spec.model {
        TokenizerModel::ByteLevelBpe { pre } => {
            let own = PreTokenizer::named(pre).ok()?;
            let others: Vec<_> = PRE_TOKENIZERS.iter().filter(|p| p.regexes != own.regexes).collect();
            let other = dice.pick(&others)?.names[0];
            let what = format!("pre-tokenizer {pre} became {other}");
            *pre = other.to_owned();
            Some(("tokenizer model", what))
        }
        TokenizerModel::SentencePiece => {
            spec.add_space_prefix = !spec.add_space_prefix;
            Some(("tokenizer add_space_prefix", format!("add_space_prefix became {}", spec.add_space_prefix)))
        }
    })
};

/// A special token typed as ordinary text.
pub(super) const SPECIAL_AS_NORMAL: Plant = |draft, dice| {
    change(draft, |spec| {
        let id = *dice.pick(&of_kind(spec, TokenKind::Control))?;
        let token = &mut spec.tokens[id];
        token.kind = TokenKind::Normal;
        Some(("vocabulary entry", format!("token {id} {:?} is typed as ordinary text", token.text)))
    })
};

/// The chat template trimmed; where there is none, one that belongs to other models.
pub(super) const TEMPLATE: Plant = |draft, dice| {
    change(draft, |spec| {
        let what = match &mut spec.chat_template {
            None => {
                spec.chat_template = Some(CHATML.to_owned());
                "a chat template that is not the model's"
            }
            Some(template) if dice.below(2) == 0 && template.contains("\\n") => {
                *template = template.replacen("\\n", "", 1);
                "the chat template lost a line break"
            }
            Some(template) => {
                let trimmed = template.trim_end().to_owned();
                *template = if trimmed == *template { trimmed.chars().skip(1).collect() } else { trimmed };
                "the chat template is trimmed"
            }
        };
        Some(("tokenizer chat_template", what.to_owned()))
    })
};

/// The last token of the vocabulary gone.
pub(super) const VOCABULARY_CUT: Plant = |draft, _| {
    change(draft, |spec| {
        let last = spec.tokens.iter().rposition(|t| t.kind != TokenKind::Unused)?;
        let roles = [spec.bos, spec.eos, spec.unk, spec.pad];
        let id = last as u32;
        if roles.contains(&Some(id)) || spec.more_eos.contains(&id) {
            spec.tokens[last] =
                Token { text: format!("[PAD{last}]"), kind: TokenKind::Unused, ..spec.tokens[last] };
        } else {
            spec.tokens.truncate(last);
        }
        Some(("vocabulary entry", format!("token {last} is not in the vocabulary")))
    })
};

/// No tokenizer in the file.
pub(super) const LOST: Plant = |draft, _| {
    match &mut draft.side {
        Container::Gguf(header) => header.metadata.retain(|(key, _)| !key.starts_with("tokenizer.")),
        Container::Apr(header) => header.metadata.retain(|key, _| !key.starts_with("tokenizer.")),
        Container::Hf(folder) => {
            folder.tokenizer_json = None;
            draft.left_out.push("tokenizer.json");
        }
    }
    Done::of("tokenizer", "the file has no tokenizer")
};
