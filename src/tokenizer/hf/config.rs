//! Which token plays which role, and what is added to a prompt: `tokenizer_config.json`, the post-processor,
//! and the id lists of `generation_config.json` and `config.json`.

use super::{malformed, unsupported};
use crate::error::{Error, Kind, Result};
use crate::formats::HfFolder;
use serde_json::{Map, Value as Json};
use std::collections::HashMap;

type Ids<'t> = HashMap<&'t str, u32>;

/// The files that name roles.
pub(super) struct Roles<'f> {
    folder: &'f HfFolder,
    tokenizer_config: Option<&'f Map<String, Json>>,
    /// What the post-processor's template puts before and after a text, where there is a template.
    template: Option<Template>,
}

/// Ids that end a generation.
pub(super) struct Ends {
    pub eos: Option<u32>,
    pub more: Vec<u32>,
}

#[derive(Default)]
struct Template {
    before: Option<u32>,
    after: Option<u32>,
}

impl<'f> Roles<'f> {
    pub(super) fn read(json: &Json, folder: &'f HfFolder) -> Result<Roles<'f>> {
        let template = template(&json["post_processor"])?;
        Ok(Roles { folder, tokenizer_config: folder.tokenizer_config.as_ref(), template })
    }

    /// The id of a token that `tokenizer_config.json` names, as text or as an object.
    pub(super) fn id(&self, role: &str, ids: &Ids) -> Result<Option<u32>> {
        let value = self.tokenizer_config.and_then(|c| c.get(role));
        let text = value.and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
        let Some(text) = text else { return Ok(None) };
        let found = ids.get(text).copied();
        found.map(Some).ok_or_else(|| {
            Error::new(Kind::Malformed, "tokenizer_config.json", format!("`{text}` is not in the vocabulary"))
                .at(role)
        })
    }

    /// BOS: as named, else what the template starts with, else the id in the configs.
    pub(super) fn bos(&self, ids: &Ids) -> Result<Option<u32>> {
        let named = self.id("bos_token", ids)?;
        let is_said = self.tokenizer_config.is_some_and(|c| c.contains_key("bos_token"));
        let template = self.template.as_ref().and_then(|t| t.before);
        Ok(named
            .or(template)
            .or_else(|| if is_said { None } else { self.listed("bos_token_id").first().copied() }))
    }

    /// EOS as named, else the first of the list; the rest of the list beside it. The list is that of
    /// `generation_config.json`, else of `config.json`.
    pub(super) fn ends(&self, ids: &Ids) -> Result<Ends> {
        let list = self.listed("eos_token_id");
        let eos = self.id("eos_token", ids)?.or_else(|| list.first().copied());
        let n = ids.len() as u64;
        if let Some(id) = list.iter().find(|&&id| u64::from(id) >= n) {
            return Err(Error::new(
                Kind::Malformed,
                "generation_config.json",
                format!("{id} is outside the vocabulary"),
            )
            .at("eos_token_id"));
        }
        Ok(Ends { eos, more: super::super::stored::distinct_but(eos, list) })
    }

    /// Whether BOS and EOS are added: the template says, else the flags, else what SentencePiece does.
    pub(super) fn template(
        &self,
        bos: Option<u32>,
        eos: Option<u32>,
        sentence_piece: bool,
    ) -> Result<(bool, bool)> {
        if let Some(Template { before, after }) = &self.template {
            for (what, id, role) in [("before", before, bos), ("after", after, eos)] {
                if let Some(id) = id.filter(|_| *id != role) {
                    return Err(unsupported(
                        "post_processor",
                        format!(
                            "the template puts token {id} {what} the text, and that is neither BOS nor EOS"
                        ),
                    ));
                }
            }
            return Ok((before.is_some(), after.is_some()));
        }
        let flag = |name: &str| self.tokenizer_config.and_then(|c| c.get(name)?.as_bool());
        let class =
            self.tokenizer_config.and_then(|c| c.get("tokenizer_class")?.as_str()).unwrap_or_default();
        let by_class = sentence_piece && (class.starts_with("Llama") || class.starts_with("Gemma"));
        let add_bos = flag("add_bos_token").unwrap_or(by_class) && bos.is_some();
        let add_eos = flag("add_eos_token").unwrap_or(false) && eos.is_some();
        Ok((add_bos, add_eos))
    }

    /// The file of its own, else `tokenizer_config.json`'s text, or the `default` of its list.
    pub(super) fn chat_template(&self) -> Option<String> {
        if let Some(template) = &self.folder.chat_template {
            return Some(template.clone());
        }
        match self.tokenizer_config?.get("chat_template")? {
            Json::String(template) => Some(template.clone()),
            Json::Array(list) => {
                let default = list
                    .iter()
                    .find(|t| t["name"] == "default")
                    .or_else(|| list.first().filter(|_| list.len() == 1))?;
                default["template"].as_str().map(str::to_owned)
            }
            _ => None,
        }
    }

    fn listed(&self, key: &str) -> Vec<u32> {
        let value = self
            .folder
            .generation_config
            .as_ref()
            .and_then(|c| c.get(key))
            .or_else(|| self.folder.config.get(key));
        let id = |v: &Json| v.as_u64().and_then(|id| u32::try_from(id).ok());
        match value {
            Some(Json::Array(list)) => list.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

/// The one template among the processors. `ByteLevel` only moves offsets.
fn template(part: &Json) -> Result<Option<Template>> {
    match part["type"].as_str() {
        None if part.is_null() => Ok(None),
        Some("ByteLevel") => Ok(None),
        Some("Sequence") => {
            let list = part["processors"]
                .as_array()
                .ok_or_else(|| malformed("no list of processors").at("post_processor"))?;
            let mut found = None;
            for part in list {
                if let Some(template) = template(part)? {
                    if found.is_some() {
                        return Err(unsupported("post_processor", "two templates"));
                    }
                    found = Some(template);
                }
            }
            Ok(found)
        }
        Some("TemplateProcessing") => template_processing(part).map(Some),
        other => Err(unsupported("post_processor", other.unwrap_or("unknown type").to_owned())),
    }
}

fn template_processing(part: &Json) -> Result<Template> {
    let pieces = part["single"]
        .as_array()
        .ok_or_else(|| malformed("the template has no `single`").at("post_processor"))?;
    let mut template = Template::default();
    let mut text_seen = false;
    for piece in pieces {
        if piece["Sequence"].is_object() && !text_seen {
            text_seen = true;
            continue;
        }
        let name = piece["SpecialToken"]["id"]
            .as_str()
            .ok_or_else(|| unsupported("post_processor", piece.to_string()))?;
        let ids = part["special_tokens"][name]["ids"].as_array().map_or(&[][..], Vec::as_slice);
        let [id] = ids else {
            return Err(unsupported("post_processor", format!("`{name}` is not one token")));
        };
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            malformed(format!("the template gives `{name}` the id {id}")).at("post_processor")
        })?;
        let place = if text_seen { &mut template.after } else { &mut template.before };
        if place.replace(id).is_some() {
            return Err(unsupported("post_processor", "more than one token on one side of the text"));
        }
    }
    Ok(template)
}
