//! JSON objects, read strictly: a key that stands twice is an error, not a choice.

use super::map;
use crate::{Error, Result};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};
use std::fmt;
use std::path::Path;

/// The JSON object in `text`, which is `what` of the file at `path`.
///
/// # Errors
/// [`crate::Kind::Malformed`] with line and column for broken JSON, a duplicate key at any depth, or
/// something other than an object.
pub(crate) fn object(path: &Path, what: &str, text: &[u8]) -> Result<Map<String, Json>> {
    match serde_json::from_slice(text) {
        Ok(Strict(Json::Object(object))) => Ok(object),
        Ok(_) => Err(Error::malformed(path, "JSON, but no object").at(what)),
        Err(error) => {
            let at = format!("{what}, line {}, column {}", error.line(), error.column());
            let text = error.to_string();
            // The position stands in `at` already.
            let short = text.rsplit_once(" at line ").map_or(text.as_str(), |(short, _)| short);
            // A duplicate is sound JSON, only not for us.
            let prefix = if short.starts_with(DUPLICATE) { "" } else { "invalid JSON: " };
            Err(Error::malformed(path, format!("{prefix}{short}")).at(at))
        }
    }
}

/// The JSON object in the file at `path`, or `None` where there is no such file.
pub(super) fn object_file(path: &Path) -> Result<Option<Map<String, Json>>> {
    map::read_side_file(path)?.map(|text| object(path, "the file", &text)).transpose()
}

const DUPLICATE: &str = "duplicate name";

struct Strict(Json);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Json::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Strict(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("{DUPLICATE} `{key}`")));
            }
            map.insert(key, value);
        }
        Ok(Strict(map.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_key_is_an_error_at_any_depth() {
        let path = Path::new("x.json");
        let read = |text: &str| object(path, "the file", text.as_bytes());
        assert_eq!(read(r#"{"a":[1,{"b":-2.5}],"c":null}"#).unwrap()["a"][1]["b"], -2.5);
        for (text, says) in [
            (r#"{"a":1,"a":2}"#, "duplicate name `a`"),
            (r#"{"a":[{"b":1,"b":1}]}"#, "duplicate name `b`"),
            ("[1]", "no object"),
            ("{\"a\":\n1,}", "line 2, column 3"),
            (&"[".repeat(100_000), "recursion limit"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
