//! Settings read by name: a value is absent, right, or an error that names its key. Nothing is guessed.

use crate::formats::{GgufHeader, GgufValue};
use crate::{Error, Kind, Result};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Sizes above this are a broken or hostile file, whatever they are sizes of.
const MAX_SIZE: u64 = 1 << 31;

/// A JSON object (`config.json`, APR metadata) whose fields are read by one of several spellings.
pub struct JsonFields<'a> {
    subject: String,
    map: &'a Map<String, Json>,
    /// Rows of the stored embedding, for containers that do not always repeat them.
    pub embedding_rows: Option<usize>,
}

/// GGUF metadata, read below one architecture prefix.
pub struct GgufFields<'a> {
    subject: String,
    header: &'a GgufHeader,
    arch: &'a str,
    /// Rows of the stored embedding: GGUF has the vocabulary size in no other reliable place.
    pub embedding_rows: usize,
    /// Whether `output.weight` is stored: GGUF has no key for a tied head.
    pub has_head: bool,
    /// The divisors of the rotary frequencies, `rope_freqs.weight`, where they are stored.
    pub rope_freqs: Option<Vec<f32>>,
}

impl<'a> JsonFields<'a> {
    /// Fields of `map`, which was read from `path`.
    pub fn new(path: &Path, map: &'a Map<String, Json>, embedding_rows: Option<usize>) -> Self {
        JsonFields { subject: path.display().to_string(), map, embedding_rows }
    }

    /// The value under the first spelling that is present and not null.
    ///
    /// # Errors
    /// Where two spellings are present and disagree.
    pub fn find(&self, names: &[&str]) -> Result<Option<&'a Json>> {
        let mut found: Option<(&str, &Json)> = None;
        for name in names {
            let Some(value) = self.map.get(*name).filter(|v| !v.is_null()) else { continue };
            match found {
                Some((first, other)) if other != value => {
                    return Err(self.wrong(first, format!("{other} contradicts `{name}`, which is {value}")));
                }
                Some(_) => {}
                None => found = Some((name, value)),
            }
        }
        Ok(found.map(|(_, value)| value))
    }

    /// Whether `name` is there and null, which is not the same as absent: it switches a default off.
    pub fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Json::is_null)
    }

    /// A size of at least 1.
    ///
    /// # Errors
    /// Where it is absent without a default, no integer, zero, or absurdly large.
    pub fn size(&self, names: &[&str], default: Option<usize>) -> Result<usize> {
        let name = names[0];
        match self.find(names)? {
            None => default.ok_or_else(|| self.missing(names)),
            Some(value) => match value.as_u64() {
                Some(n @ 1..=MAX_SIZE) => Ok(n as usize),
                Some(_) | None => Err(self.wrong(name, format!("{value} is no size"))),
            },
        }
    }

    /// A number.
    ///
    /// # Errors
    /// Where it is absent without a default, or no number.
    pub fn number(&self, names: &[&str], default: Option<f64>) -> Result<f64> {
        match self.find(names)? {
            None => default.ok_or_else(|| self.missing(names)),
            Some(value) => {
                value.as_f64().ok_or_else(|| self.wrong(names[0], format!("{value} is no number")))
            }
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// Where it is neither true nor false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.optional_flag(name)?.unwrap_or(default))
    }

    /// A truth value that may be absent.
    ///
    /// # Errors
    /// Where it is neither true nor false.
    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.find(&[name])? else { return Ok(None) };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.wrong(name, format!("{value} is neither true nor false")))
    }

    /// A nested object.
    ///
    /// # Errors
    /// Where it is no object.
    pub fn object(&self, name: &str) -> Result<Option<JsonFields<'a>>> {
        let Some(value) = self.find(&[name])? else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(name, format!("{value} is no object")))?;
        Ok(Some(JsonFields { subject: format!("{}: {name}", self.subject), map, embedding_rows: None }))
    }

    /// Refuses any value of `name` but those in `allowed`; absent passes.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] naming key and value.
    pub fn only(&self, name: &str, allowed: &[Json], why: &str) -> Result<()> {
        match self.find(&[name])? {
            Some(value) if !allowed.contains(value) => {
                Err(Error::unsupported(&*self.subject, format!("{value} is not supported: {why}")).at(name))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An error about the value of `name`.
    pub fn wrong(&self, name: &str, what: String) -> Error {
        Error::new(Kind::Malformed, &*self.subject, what).at(name)
    }

    /// A refusal of the value of `name`.
    pub fn refusal(&self, name: &str, what: String) -> Error {
        Error::unsupported(&*self.subject, what).at(name)
    }

    fn missing(&self, names: &[&str]) -> Error {
        let error = Error::new(Kind::Malformed, &*self.subject, "is missing").at(names[0]);
        if names.len() > 1 { error.hint(format!("also read as {}", names[1..].join(", "))) } else { error }
    }
}

impl<'a> GgufFields<'a> {
    /// Metadata of the GGUF at `path`, keys below `arch`.
    pub fn new(
        path: &Path,
        header: &'a GgufHeader,
        arch: &'a str,
        embedding_rows: usize,
        has_head: bool,
    ) -> Self {
        let subject = path.display().to_string();
        GgufFields { subject, header, arch, embedding_rows, has_head, rope_freqs: None }
    }

    /// `{arch}.{name}` as a size of at least 1.
    ///
    /// # Errors
    /// Where it is absent without a default, no integer, zero, absurdly large, or an array that differs
    /// from layer to layer.
    pub fn size(&self, name: &str, default: Option<usize>) -> Result<usize> {
        let Some(value) = self.get(name) else {
            return default.ok_or_else(|| self.wrong(name, "is missing"));
        };
        match value.as_u64() {
            Some(n @ 1..=MAX_SIZE) => Ok(n as usize),
            Some(n) => Err(self.wrong(name, format!("{n} is no size"))),
            None => Err(self.wrong(name, "is no single size; one per layer is not supported")),
        }
    }

    /// `{arch}.{name}` as a number.
    ///
    /// # Errors
    /// Where it is absent without a default, or no number.
    pub fn number(&self, name: &str, default: Option<f64>) -> Result<f64> {
        let Some(value) = self.get(name) else {
            return default.ok_or_else(|| self.wrong(name, "is missing"));
        };
        value.as_f64().ok_or_else(|| self.wrong(name, "is no number"))
    }

    /// `{arch}.{name}` as a size, 0 and absence both meaning that there is none.
    ///
    /// # Errors
    /// Where it is no integer, or absurdly large.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        match self.get(name).map(|v| v.as_u64()) {
            None | Some(Some(0)) => Ok(None),
            Some(_) => self.size(name, None).map(Some),
        }
    }

    /// `{arch}.{name}` as text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(GgufValue::as_str)
    }

    /// Refuses `{arch}.{name}` unless it is absent or a number among `neutral`.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] naming the key.
    pub fn refuse(&self, name: &str, neutral: &[f64], why: &str) -> Result<()> {
        match self.get(name) {
            None => Ok(()),
            Some(value) if value.as_f64().is_some_and(|x| neutral.contains(&x)) => Ok(()),
            Some(_) => Err(self.unsupported(name, why)),
        }
    }

    /// Refuses `{arch}.{name}` unless it is absent or the text `neutral`.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] naming key and value.
    pub fn refuse_text(&self, name: &str, neutral: &str, why: &str) -> Result<()> {
        match self.get(name).map(|v| v.as_str()) {
            None => Ok(()),
            Some(Some(text)) if text == neutral => Ok(()),
            Some(Some(text)) => Err(self.unsupported(name, &format!("`{text}`: {why}"))),
            Some(None) => Err(self.wrong(name, "is no text")),
        }
    }

    fn get(&self, name: &str) -> Option<&'a GgufValue> {
        self.header.get(&format!("{}.{name}", self.arch))
    }

    /// A refusal of the value of `{arch}.{name}`.
    pub fn unsupported(&self, name: &str, why: &str) -> Error {
        Error::unsupported(&*self.subject, format!("is not supported: {why}"))
            .at(format!("{}.{name}", self.arch))
    }

    /// An error about the value of `{arch}.{name}`.
    pub fn wrong(&self, name: &str, what: impl Into<String>) -> Error {
        Error::new(Kind::Malformed, &*self.subject, what).at(format!("{}.{name}", self.arch))
    }
}

/// The shortest decimal of an f32 as JSON: a config says `1e-5`, not `0.000009999999747378752`.
pub fn short_decimal(x: f32) -> Json {
    // The shortest decimal that reads back as `x` is a valid f64 literal.
    let decimal: f64 = x.to_string().parse().expect("Display of an f32 is a number");
    Json::from(decimal)
}
