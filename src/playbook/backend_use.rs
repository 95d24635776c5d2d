//! A backend as a playbook names it: the name alone, or `{ name: wgpu, optional: true }`.

use super::located::{At, Located};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A backend, and what it means that this machine lacks the adapter that it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendUse {
    /// A name of the backend table, with its place.
    pub name: Located<String>,
    /// Whether its cases are then a Skip; otherwise nothing runs and the exit code is 3.
    pub optional: bool,
}

impl BackendUse {
    /// A backend that must be there, as a list that nobody wrote names it.
    pub(super) fn required(name: &str) -> BackendUse {
        BackendUse { name: Located { value: name.to_owned(), at: At::default() }, optional: false }
    }
}

/// The names of `uses`, with their places.
pub(super) fn names_of(uses: &[BackendUse]) -> Vec<Located<String>> {
    uses.iter().map(|backend| backend.name.clone()).collect()
}

/// The two forms as they are written; where a name stands alone, its place is that of the whole.
enum Form {
    Name(String),
    Mapping { name: Located<String>, optional: bool },
}

impl<'de> Deserialize<'de> for BackendUse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Located { value, at } = Located::<Form>::deserialize(deserializer)?;
        Ok(match value {
            Form::Name(value) => BackendUse { name: Located { value, at }, optional: false },
            Form::Mapping { name, optional } => BackendUse { name, optional },
        })
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMapping;

        impl<'de> Visitor<'de> for NameOrMapping {
            type Value = Form;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a backend, or a mapping with `name` and `optional`")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Form, E> {
                Ok(Form::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Form, A::Error> {
                let (mut name, mut optional) = (None, false);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "name" => name = Some(map.next_value()?),
                        "optional" => optional = map.next_value()?,
                        other => return Err(A::Error::unknown_field(other, &["name", "optional"])),
                    }
                }
                let name = name.ok_or_else(|| A::Error::missing_field("name"))?;
                Ok(Form::Mapping { name, optional })
            }
        }

        deserializer.deserialize_any(NameOrMapping)
    }
}

impl JsonSchema for BackendUse {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BackendUse".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "object"],
            "properties": {
                "name": { "description": "Name of the backend.", "type": "string" },
                "optional": {
                    "description": "Whether its cases are a Skip where this machine lacks the adapter that it needs; \
                                    otherwise nothing runs and the exit code is 3.",
                    "type": "boolean",
                    "default": false,
                },
            },
            "required": ["name"],
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, PLAYBOOK, Shapes};
    use super::super::{At, Case, parse, plan};

    /// The cases of the fixture with `to` instead of `from`.
    fn cases(from: &str, to: &str) -> Vec<Case> {
        assert!(PLAYBOOK.contains(from), "{from}");
        let playbook = parse("p.yaml", &PLAYBOOK.replacen(from, to, 1)).unwrap_or_else(|e| panic!("{e}"));
        plan(&playbook, &Shapes).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn both_forms_name_a_backend_at_its_place() {
        let text = PLAYBOOK.replacen(
            "backends: [cpu, reference]",
            "backends: [cpu, { optional: true, name: reference }]",
            1,
        );
        let playbook = parse("p.yaml", &text).unwrap_or_else(|e| panic!("{e}"));
        let uses = playbook.suites.iter().flat_map(|(_, gates)| gates).filter_map(|g| g.backends.as_ref());
        let uses: Vec<_> = uses.flatten().collect();
        let shown: Vec<_> = uses.iter().map(|b| (b.name.value.as_str(), b.optional)).collect();
        assert_eq!(shown, [("cpu", false), ("reference", true)]);
        let line = text.lines().position(|l| l.contains("backends: [cpu, {")).expect("just written");
        let column = text.lines().nth(line).and_then(|l| l.find("reference")).expect("just written");
        assert_eq!(uses[1].name.at, At { line: line as u32 + 1, column: column as u32 + 1 });
    }

    #[test]
    fn only_the_cases_of_an_optional_backend_may_miss_it() {
        let plain = fixture::cases();
        assert!(plain.iter().all(|case| case.optional_backends.is_empty()));
        let marked =
            cases("backends: [cpu, reference]", "backends: [cpu, { name: reference, optional: true }]");
        let ids = |cases: &[Case]| cases.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&plain), ids(&marked));
        for (before, after) in plain.iter().zip(&marked) {
            let own = if before.backend == "reference" { vec!["reference".to_owned()] } else { vec![] };
            assert_eq!((after.optional, &after.optional_backends), (before.optional, &own));
        }
    }

    #[test]
    fn what_a_gate_is_held_against_may_be_missed_where_the_playbook_says_so() {
        let text = PLAYBOOK.replacen("against: llama", "against: reference", 1).replacen(
            "backends: [cpu, reference]",
            "backends: [cpu]",
            1,
        );
        let optional = |text: &str| {
            let playbook = parse("p.yaml", text).unwrap_or_else(|e| panic!("{e}"));
            let cases = plan(&playbook, &Shapes).unwrap_or_else(|e| panic!("{e}"));
            let case = cases.into_iter().find(|c| c.gate == "runtime-parity").expect("planned");
            (case.optional, case.optional_backends.join(" "))
        };
        assert_eq!(optional(&text), (false, String::new()));
        let marked = format!("{text}\nbackends: [cpu, {{ name: reference, optional: true }}]\n");
        assert_eq!(optional(&marked), (false, "reference".into()));
        let gate = text.replacen("against: reference", "against: reference\n      optional: true", 1);
        assert_eq!(optional(&gate), (true, "cpu reference".into()));
    }

    #[test]
    fn neither_form_is_a_complaint_at_its_place() {
        for (to, message) in [
            ("backends: [3]", "an item of `backends`: expected text or a mapping, found a number"),
            ("backends: [{ optional: true }]", "an item of `backends`: the key `name` is missing"),
            ("backends: [{ name: cpu, optinal: true }]", "an item of `backends`: unknown key `optinal`"),
            (
                "backends: [{ name: cpu, optional: yes }]",
                "`optional`: expected `true` or `false`, found text",
            ),
        ] {
            let text = PLAYBOOK.replacen("backends: [cpu, reference]", to, 1);
            let error = parse("p.yaml", &text).expect_err(message);
            assert_eq!(error.items()[0].message, message);
        }
    }
}
