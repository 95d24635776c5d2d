//! The pipeline of `tokenizer.json` (normalizer, pre-tokenizer, model options, decoder), recognised by its
//! structure.

use super::super::pre::{BUT_NO_BLANK, DIGIT, GPT2, PRE_TOKENIZERS, PreTokenizer};
use super::unsupported;
use crate::error::Result;
use crate::formats::HfFolder;
use serde_json::Value as Json;

/// What the pipeline comes to.
pub(super) struct Pipeline {
    /// Merge by score with visible spaces, or byte-level BPE.
    pub sentence_piece: bool,
    /// The pre-tokenizer's name in GGUF; empty for SentencePiece.
    pub pre: String,
    pub space_prefix: bool,
    pub nfc: bool,
}

/// The key in `tokenizer_config.json` under which our export keeps the name that structure alone cannot tell:
/// several names share one structure.
pub(super) const PRE_KEY: &str = "ggml_pre_tokenizer";

pub(super) fn read(json: &Json, folder: &HfFolder) -> Result<Pipeline> {
    let mut found = Found::default();
    found.model(&json["model"])?;
    found.normalizer(&json["normalizer"])?;
    found.pre_tokenizer(&json["pre_tokenizer"])?;
    let ignore_merges = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    check_decoder(&json["decoder"])?;
    if found.byte_level && !found.visible_space {
        if found.byte_fallback {
            return Err(unsupported("model.byte_fallback", "together with a ByteLevel pre-tokenizer"));
        }
        let pre = name(&found.steps, ignore_merges, folder)?;
        return Ok(Pipeline { sentence_piece: false, pre, space_prefix: false, nfc: found.nfc });
    }
    if found.byte_level || !found.visible_space || found.nfc || !found.steps.is_empty() || ignore_merges {
        return Err(unsupported("pre_tokenizer", "neither byte-level BPE nor SentencePiece")
            .hint("see the normalizer and the pre_tokenizer of the file"));
    }
    Ok(Pipeline { sentence_piece: true, pre: String::new(), space_prefix: found.space_prefix, nfc: false })
}

#[derive(Default)]
struct Found {
    byte_fallback: bool,
    byte_level: bool,
    visible_space: bool,
    space_prefix: bool,
    nfc: bool,
    /// Regular expressions that isolate their matches, in order.
    steps: Vec<String>,
}

impl Found {
    fn model(&mut self, model: &Json) -> Result<()> {
        match model["type"].as_str() {
            // The oldest files have no type; BPE is the one that has merges.
            Some("BPE") => {}
            None if model["merges"].is_array() => {}
            other => {
                return Err(unsupported("model", format!("type {}", other.unwrap_or("unknown")))
                    .hint("supported: BPE"));
            }
        }
        for option in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let Some(text) = model[option].as_str().filter(|t| !t.is_empty()) {
                return Err(unsupported("model", format!("{option} `{text}`")));
            }
        }
        if let Some(rate) = model["dropout"].as_f64().filter(|&rate| rate > 0.0) {
            return Err(unsupported("model", format!("dropout {rate}: ids would be random")));
        }
        self.byte_fallback = model["byte_fallback"].as_bool().unwrap_or(false);
        Ok(())
    }

    fn normalizer(&mut self, part: &Json) -> Result<()> {
        match part["type"].as_str() {
            None if part.is_null() => Ok(()),
            Some("Sequence") => members(part, "normalizers").try_for_each(|p| self.normalizer(p)),
            Some("NFC") => {
                self.nfc = true;
                Ok(())
            }
            Some("Prepend") if part["prepend"] == "▁" => {
                self.space_prefix = true;
                Ok(())
            }
            Some("Replace") if part["pattern"]["String"] == " " && part["content"] == "▁" => {
                self.visible_space = true;
                Ok(())
            }
            _ => Err(unsupported("normalizer", shown(part))),
        }
    }

    fn pre_tokenizer(&mut self, part: &Json) -> Result<()> {
        match part["type"].as_str() {
            None if part.is_null() => Ok(()),
            Some("Sequence") => members(part, "pretokenizers").try_for_each(|p| self.pre_tokenizer(p)),
            Some("ByteLevel") => self.byte_level(part),
            Some("Metaspace") => self.metaspace(part),
            Some("Digits") => {
                let one_by_one = part["individual_digits"].as_bool().unwrap_or(false);
                self.steps.push(if one_by_one { DIGIT } else { r"\p{N}+" }.to_owned());
                Ok(())
            }
            Some("Punctuation") if part["behavior"] == "Contiguous" => {
                self.steps.push(PUNCTUATION.to_owned());
                Ok(())
            }
            Some("Split") => self.split(part),
            _ => Err(unsupported("pre_tokenizer", shown(part))),
        }
    }

    fn byte_level(&mut self, part: &Json) -> Result<()> {
        if part["add_prefix_space"].as_bool().unwrap_or(true) {
            return Err(unsupported("pre_tokenizer", "ByteLevel with add_prefix_space")
                .hint("llama.cpp does not do this, so no GGUF could"));
        }
        if part["use_regex"].as_bool().unwrap_or(true) {
            self.steps.push(GPT2.to_owned());
        }
        self.byte_level = true;
        Ok(())
    }

    fn metaspace(&mut self, part: &Json) -> Result<()> {
        let prefix = match part["prepend_scheme"].as_str() {
            Some("never") => false,
            Some("always" | "first") => true,
            _ => part["add_prefix_space"].as_bool().unwrap_or(true),
        };
        if part["replacement"] != "▁" || part["split"].as_bool() == Some(true) {
            return Err(unsupported("pre_tokenizer", shown(part)));
        }
        self.visible_space = true;
        self.space_prefix |= prefix;
        Ok(())
    }

    fn split(&mut self, part: &Json) -> Result<()> {
        let inverted = part["invert"].as_bool().unwrap_or(false);
        let pattern = &part["pattern"];
        if let Some(regex) = pattern["Regex"].as_str() {
            // Removing what does not match is isolating what does, where the expression matches everything.
            if inverted == (part["behavior"] == "Removed") && (inverted || part["behavior"] == "Isolated") {
                self.steps.push(regex.to_owned());
                return Ok(());
            }
        }
        // No blank is left once all are visible, so a split at blanks does nothing.
        if pattern["String"] == " " && self.visible_space {
            return Ok(());
        }
        Err(unsupported("pre_tokenizer", shown(part)))
    }
}

/// The name of the pre-tokenizer with these steps: the one our export noted, else by the model's type where
/// several share the steps, else the usual one.
fn name(steps: &[String], ignore_merges: bool, folder: &HfFolder) -> Result<String> {
    let steps: Vec<String> = steps.iter().map(|s| canonical(s)).collect();
    let is_it = |p: &PreTokenizer| {
        p.ignore_merges == ignore_merges && p.regexes.iter().map(|r| canonical(r)).eq(steps.iter().cloned())
    };
    let Some(usual) = PRE_TOKENIZERS.iter().find(|p| is_it(p)) else {
        let merges = if ignore_merges { " with ignore_merges" } else { "" };
        return Err(unsupported(
            "pre_tokenizer",
            format!("unknown regular expressions{merges}: {}", steps.join("  then  ")),
        ));
    };
    let noted = folder.tokenizer_config.as_ref().and_then(|c| c.get(PRE_KEY)?.as_str());
    let by_type = match folder.config.get("model_type").and_then(Json::as_str) {
        Some("starcoder2" | "gpt_bigcode") => Some("starcoder"),
        Some("cohere") => Some("command-r"),
        _ => None,
    };
    let fits = |name: &&str| PreTokenizer::named(name).is_ok_and(is_it);
    Ok(noted.into_iter().chain(by_type).find(fits).unwrap_or(usual.names[0]).to_owned())
}

/// One spelling for expressions that cut alike.
fn canonical(regex: &str) -> String {
    let mut regex = regex.replace('\r', r"\r").replace('\n', r"\n").replace(BUT_NO_BLANK, "]+");
    for (spelling, ours) in [
        ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"),
        (r"\p{N}{1}", r"\p{N}"),
    ] {
        regex = match regex.find(spelling) {
            // `\p{N}{1,3}` is another thing, and does not hold the closing brace in that place.
            Some(_) => regex.replace(spelling, ours),
            None => regex,
        };
    }
    // What no alternative takes is a piece of its own, so the last one for blanks may be left out.
    if regex.ends_with(r"|\s+(?!\S)") {
        regex.push_str(r"|\s+");
    }
    regex
}

fn check_decoder(part: &Json) -> Result<()> {
    match part["type"].as_str() {
        None if part.is_null() => Ok(()),
        Some("Sequence") => members(part, "decoders").try_for_each(check_decoder),
        Some("ByteLevel" | "ByteFallback" | "Fuse" | "Metaspace" | "Replace" | "Strip") => Ok(()),
        _ => Err(unsupported("decoder", shown(part))),
    }
}

fn members<'j>(part: &'j Json, key: &str) -> std::slice::Iter<'j, Json> {
    part[key].as_array().map_or_else(Default::default, |list| list.iter())
}

/// A part as the file has it, cut where it is long.
fn shown(part: &Json) -> String {
    let text = part.to_string();
    text.char_indices().nth(400).map_or_else(|| text.clone(), |(cut, _)| format!("{}…", &text[..cut]))
}

/// `Punctuation`: ASCII marks and Unicode punctuation.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
