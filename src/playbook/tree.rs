//! YAML as a tree of located nodes, read under limits.
//!
//! A playbook is written by people and is small: whatever is huge, deep or feeds on its own anchors is refused
//! before it costs anything.

use super::diagnostics::Diagnostics;
use super::located::{At, Located};
use super::source::Source;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A node and where it stands.
pub(super) type Node = Located<Value>;

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Located<String>, Node)>),
}

/// Reads the whole text as a tree: syntax, duplicate keys and limits are settled after this.
pub(super) fn read(source: &Source) -> Result<Node, Diagnostics> {
    if source.text().len() > LARGEST_FILE {
        let message = format!("the playbook has {} bytes, more than {LARGEST_FILE}", source.text().len());
        return Err(Diagnostics::one(source, At::default(), message, None));
    }
    if source.text().trim().is_empty() {
        let hint = Some("a playbook begins with `version: 1`".to_owned());
        return Err(Diagnostics::one(source, At::default(), "the playbook is empty", hint));
    }
    decode(source)
}

/// Reads the text as `T`, under the same limits.
pub(super) fn decode<T: DeserializeOwned>(source: &Source) -> Result<T, Diagnostics> {
    serde_yaml::from_str_with_options(source.text(), limits()).map_err(|e| complaint(source, &e))
}

/// The largest playbook that is read, in bytes; who reads the file need not read more than one byte beyond.
pub const LARGEST_FILE: usize = 1 << 20;
/// Deepest nesting; a playbook needs seven.
const DEEPEST: usize = 24;
/// Most nodes, aliases replayed.
const MOST_NODES: usize = 50_000;

fn limits() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_reader_input_bytes: Some(LARGEST_FILE),
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: MOST_NODES,
            max_events: 4 * MOST_NODES,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 1,
            max_total_scalar_bytes: LARGEST_FILE,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MOST_NODES,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 1_000,
        },
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// The YAML reader's error in our own words where it matters, with its place.
fn complaint(source: &Source, error: &serde_yaml::Error) -> Diagnostics {
    let at = error.location().map(At::of).unwrap_or_default();
    let (message, hint) = in_our_words(error);
    Diagnostics::one(source, at, message, hint.map(str::to_owned))
}

fn in_our_words(error: &serde_yaml::Error) -> (String, Option<&'static str>) {
    use serde_yaml::Error as Yaml;
    use serde_yaml::budget::BudgetBreach;
    let too_large = "the YAML is larger or deeper than any playbook needs";
    match error.without_snippet() {
        Yaml::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            (format!("the key `{key}` stands twice in one mapping"), Some("keep one of them"))
        }
        Yaml::MultipleDocuments { .. } | Yaml::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            ("a second YAML document begins".to_owned(), Some("a playbook is one document"))
        }
        Yaml::Budget { .. } => (too_large.to_owned(), None),
        Yaml::AliasReplayLimitExceeded { .. }
        | Yaml::AliasExpansionLimitExceeded { .. }
        | Yaml::AliasReplayStackDepthExceeded { .. }
        | Yaml::AliasReplayCounterOverflow { .. } => {
            ("aliases expand to more than any playbook needs".to_owned(), None)
        }
        Yaml::UnknownAnchor { .. } | Yaml::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an alias without an anchor before it, or one that contains itself".to_owned(), None)
        }
        Yaml::NonFiniteFloat { .. } => ("expected a finite number".to_owned(), None),
        Yaml::AliasError { error, .. } => in_our_words(error),
        // The crate's errors are not exhaustive; what is left is syntax, which it words well.
        other => match without_place(&other.to_string()) {
            text if text.contains("recursion limit") => (too_large.to_owned(), None),
            text => (text, None),
        },
    }
}

/// The reader repeats the place in its text; the caret shows it better.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or("not valid YAML");
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let cut = line.rfind(" at line ").or_else(|| line.rfind(" at byte ")).unwrap_or(line.len());
    line[..cut].to_owned()
}

impl Value {
    /// What it is, in a sentence.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a YAML node")
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: Error>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Bool(b))
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
                Ok(Value::Number(n as f64))
            }

            fn visit_u64<E: Error>(self, n: u64) -> Result<Value, E> {
                Ok(Value::Number(n as f64))
            }

            fn visit_f64<E: Error>(self, n: f64) -> Result<Value, E> {
                Ok(Value::Number(n))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
