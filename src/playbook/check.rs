//! Holds the YAML tree against the JSON Schema of the playbook and reports every fault with its place.
//!
//! The schema is generated from the types, so there is one source of truth; this reads exactly the words that
//! the generator writes and refuses to guess at others (a test walks the schema).

use super::diagnostics::Gather;
use super::located::{At, Located};
use super::suggest;
use super::tree::{Node, Value};
use regex::Regex;
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::collections::HashMap;

/// Reports every place where `node` breaks `schema` (the root, which holds `$defs`).
pub(super) fn check(node: &Node, schema: &Json, gather: &mut Gather) {
    Checker { root: schema, gather }.node(node, schema, "the playbook");
}

/// The words of JSON Schema that this understands. Annotations are listed with their equals because they too
/// occur; anything else in a schema would be a rule that is silently not held.
#[cfg(test)]
pub(super) const UNDERSTOOD: &[&str] = &[
    "$schema",
    "$id",
    "$defs",
    "$ref",
    "title",
    "description",
    "default",
    "type",
    "const",
    "enum",
    "oneOf",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "items",
    "minItems",
    "minLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "format",
];

struct Checker<'a> {
    root: &'a Json,
    gather: &'a mut Gather,
}

impl<'a> Checker<'a> {
    fn node(&mut self, node: &Node, schema: &'a Json, what: &str) {
        let Some(rules) = self.resolve(schema) else { return };
        if let Some(wanted) = self.wrong_type(node, rules) {
            let message = format!("{what}: expected {wanted}, found {}", node.value.describe());
            return self.gather.add(node.at, message, self.type_hint(node, rules));
        }
        if let Some(choices) = choices(rules) {
            return self.choice(node, &choices, what);
        }
        match &node.value {
            Value::Map(entries) => self.mapping(node.at, entries, rules, what),
            Value::List(items) => self.list(node.at, items, rules, what),
            Value::Text(text) => self.text(node.at, text, rules, what),
            Value::Number(n) => self.number(node.at, *n, rules, what),
            Value::Bool(b) => {
                if rules.get("const").is_some_and(|c| c != b) {
                    let message = format!("{what}: only `{}` is allowed", rules["const"]);
                    self.gather.add(node.at, message, Some("or leave the key out".to_owned()));
                }
            }
            Value::Null => {}
        }
    }

    /// Follows `$ref`, also where it stands beside a description or in an `anyOf` of one.
    fn resolve(&self, schema: &'a Json) -> Option<&'a Map<String, Json>> {
        let rules = schema.as_object()?;
        let only = rules.get("anyOf").and_then(Json::as_array).filter(|list| list.len() == 1);
        if let Some(list) = only {
            return self.resolve(&list[0]);
        }
        match rules.get("$ref").and_then(Json::as_str) {
            Some(reference) => self.resolve(self.root.pointer(reference.strip_prefix('#')?)?),
            None => Some(rules),
        }
    }

    /// What was wanted, if the node is of another type.
    fn wrong_type(&self, node: &Node, rules: &Map<String, Json>) -> Option<String> {
        let types: Vec<&str> = match rules.get("type")? {
            Json::String(one) => vec![one],
            Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
            _ => return None,
        };
        let fits = |t: &&str| match (&node.value, *t) {
            (Value::Null, "null") | (Value::Bool(_), "boolean") | (Value::Number(_), "number") => true,
            (Value::Number(n), "integer") => n.fract() == 0.0,
            (Value::Text(_), "string") | (Value::List(_), "array") | (Value::Map(_), "object") => true,
            (
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Map(_),
                _,
            ) => false,
        };
        if types.iter().any(fits) {
            return None;
        }
        Some(types.iter().map(|t| in_words(t)).collect::<Vec<_>>().join(" or "))
    }

    fn type_hint(&self, node: &Node, rules: &Map<String, Json>) -> Option<String> {
        let wants = |t: &str| rules.get("type").is_some_and(|x| x == t);
        if let Some(pattern) = rules.get("pattern").and_then(Json::as_str) {
            return Some(pattern_hint(pattern));
        }
        match &node.value {
            Value::Text(text) if wants("array") => Some(format!("write `[{text}]`")),
            Value::Text(text) if wants("boolean") => match text.as_str() {
                "yes" | "on" | "Yes" | "True" | "TRUE" => Some("write `true`".to_owned()),
                "no" | "off" | "No" | "False" | "FALSE" => Some("write `false`".to_owned()),
                _ => None,
            },
            Value::Number(n) if wants("string") => Some(format!("put it in quotes: `\"{n}\"`")),
            Value::Bool(b) if wants("string") => Some(format!("put it in quotes: `\"{b}\"`")),
            Value::Null => Some("give it a value or leave the key out".to_owned()),
            Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    fn choice(&mut self, node: &Node, choices: &[&str], what: &str) {
        let Value::Text(text) = &node.value else { return };
        if !choices.contains(&text.as_str()) {
            let hint = self.gather.suggest(text, choices);
            self.gather.add(node.at, format!("{what}: unknown value `{text}`"), hint);
        }
    }

    fn mapping(
        &mut self,
        at: At,
        entries: &[(Located<String>, Node)],
        rules: &'a Map<String, Json>,
        what: &str,
    ) {
        let none = Map::new();
        let known = rules.get("properties").and_then(Json::as_object);
        let names: Vec<&str> = known.unwrap_or(&none).keys().map(String::as_str).collect();
        if rules.contains_key("propertyNames") && entries.len() > MOST_NAMES {
            let message = format!("{what} has {} entries, more than {MOST_NAMES}", entries.len());
            return self.gather.add(at, message, Some("divide the playbook".to_owned()));
        }
        for (key, value) in entries {
            let inner = format!("`{}`", key.value);
            if let Some(schema) = known.and_then(|k| k.get(&key.value)) {
                self.node(value, schema, &inner);
            } else if free_prefix(rules, &key.value) {
                // Whatever stands there is the author's.
            } else {
                match rules.get("additionalProperties") {
                    Some(Json::Bool(false)) => {
                        let message = format!("{what}: unknown key `{}`", key.value);
                        let hint = self.gather.suggest(&key.value, &names);
                        self.gather.add(key.at, message, hint);
                    }
                    Some(schema) => {
                        self.name(key, rules);
                        self.node(value, schema, &inner);
                    }
                    None => {}
                }
            }
        }
        self.missing(at, entries, rules, what);
        let least = rules.get("minProperties").and_then(Json::as_u64).unwrap_or(0);
        if (entries.len() as u64) < least {
            self.gather.add(at, format!("{what} is empty"), Some("name at least one".to_owned()));
        }
    }

    /// A name that the author chose: it must fit the pattern.
    fn name(&mut self, key: &Located<String>, rules: &Map<String, Json>) {
        let pattern = rules.get("propertyNames").and_then(|p| p.get("pattern")).and_then(Json::as_str);
        if pattern.is_some_and(|p| !matches(p, &key.value)) {
            let message = format!("`{}` cannot be a name", key.value);
            let hint =
                "letters, digits, `.`, `_` and `-`, beginning with a letter or digit, 64 at most".to_owned();
            self.gather.add(key.at, message, Some(hint));
        }
    }

    /// Required keys, and the one-of-several forms of prompts, artifacts and runtimes.
    fn missing(
        &mut self,
        at: At,
        entries: &[(Located<String>, Node)],
        rules: &Map<String, Json>,
        what: &str,
    ) {
        let has = |name: &str| entries.iter().any(|(k, _)| k.value == name);
        for name in strings(rules.get("required")).filter(|n| !has(n)) {
            self.gather.add(at, format!("{what}: the key `{name}` is missing"), None);
        }
        let forms: Vec<Vec<&str>> = rules
            .get("oneOf")
            .and_then(Json::as_array)
            .map(|list| list.iter().map(|form| strings(form.get("required")).collect()).collect())
            .unwrap_or_default();
        if forms.is_empty() {
            return;
        }
        let complete = forms.iter().filter(|form| form.iter().all(|k| has(k))).count();
        if complete != 1 {
            let shown: Vec<String> =
                forms.iter().map(|form| suggest::quoted(form).replace(", ", " with ")).collect();
            self.gather.add(at, format!("{what}: give exactly one of {}", shown.join(", ")), None);
        }
    }

    fn list(&mut self, at: At, items: &[Node], rules: &'a Map<String, Json>, what: &str) {
        let least = rules.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            self.gather.add(at, format!("{what} is empty"), Some("name at least one".to_owned()));
        }
        if let Some(schema) = rules.get("items") {
            for item in items {
                self.node(item, schema, &format!("an item of {what}"));
            }
        }
    }

    fn text(&mut self, at: At, text: &str, rules: &Map<String, Json>, what: &str) {
        if rules.contains_key("minLength") && text.is_empty() {
            self.gather.add(at, format!("{what} is empty"), None);
        }
        if let Some(pattern) = rules.get("pattern").and_then(Json::as_str)
            && !matches(pattern, text)
        {
            let hint = pattern_hint(pattern);
            self.gather.add(at, format!("{what}: `{text}` is not of the expected form"), Some(hint));
        }
    }

    fn number(&mut self, at: At, n: f64, rules: &Map<String, Json>, what: &str) {
        let bound = |key: &str| rules.get(key).and_then(Json::as_f64);
        if let Some(wanted) = bound("const").filter(|c| *c != n) {
            self.gather.add(at, format!("{what}: this program reads {wanted}, found {n}"), None);
        } else if let Some(least) = bound("minimum").filter(|least| n < *least) {
            self.gather.add(at, format!("{what}: {n} is below {least}"), None);
        } else if let Some(least) = bound("exclusiveMinimum").filter(|least| n <= *least) {
            self.gather.add(at, format!("{what}: {n} is not above {least}"), None);
        } else if let Some(most) = bound("maximum").filter(|most| n > *most) {
            self.gather.add(at, format!("{what}: {n} is above {most}"), None);
        }
    }
}

/// The words of an enumeration, whichever of its two spellings the generator chose.
fn choices(rules: &Map<String, Json>) -> Option<Vec<&str>> {
    if let Some(list) = rules.get("enum") {
        return Some(strings(Some(list)).collect());
    }
    let forms = rules.get("oneOf")?.as_array()?;
    forms.iter().map(|form| form.get("const").and_then(Json::as_str)).collect()
}

fn strings(list: Option<&Json>) -> impl Iterator<Item = &str> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

fn free_prefix(rules: &Map<String, Json>, key: &str) -> bool {
    let patterns = rules.get("patternProperties").and_then(Json::as_object);
    patterns.is_some_and(|p| p.keys().any(|pattern| matches(pattern, key)))
}

/// Most models, prompts, artifacts, runtimes or suites: some of what is settled between them costs the square of their
/// number.
const MOST_NAMES: usize = 1024;

fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        // A playbook has thousands of names and a handful of patterns, which take long to compile.
        static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if !compiled.contains_key(pattern) {
            compiled.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        // The patterns are our own and a test compiles each; one that did not compile would refuse everything.
        compiled[pattern].as_ref().is_some_and(|re| re.is_match(text))
    })
}

fn in_words(type_name: &str) -> &str {
    match type_name {
        "string" => "text",
        "array" => "a list",
        "object" => "a mapping",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

fn pattern_hint(pattern: &str) -> String {
    match pattern {
        p if p.ends_with("[smh]$") => "a time such as `90s`, `2m` or `1h`".to_owned(),
        "^https?://" => "an address such as `http://127.0.0.1:8080/completion`".to_owned(),
        p if p.starts_with("^[a-z0-9]") => "lower-case letters, digits and `-`".to_owned(),
        p => format!("it must match `{p}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of every schema object is understood, and every pattern compiles.
    fn walk(schema: &Json, path: &str) {
        let Some(rules) = schema.as_object() else { return };
        for (key, value) in rules {
            assert!(UNDERSTOOD.contains(&key.as_str()), "{path}: `{key}` is a rule that nobody holds");
            match key.as_str() {
                "properties" | "$defs" | "patternProperties" => {
                    for (name, inner) in value.as_object().expect("a mapping of schemas") {
                        walk(inner, &format!("{path}/{name}"));
                    }
                }
                "items" | "additionalProperties" | "propertyNames" => walk(value, &format!("{path}/{key}")),
                "anyOf" | "oneOf" => {
                    for inner in value.as_array().expect("a list of schemas") {
                        walk(inner, &format!("{path}/{key}"));
                    }
                }
                "pattern" => {
                    Regex::new(value.as_str().expect("a pattern is text")).expect("a pattern compiles");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn understands_every_word_of_the_schema() {
        walk(&super::super::schema_json::schema(), "");
    }
}
