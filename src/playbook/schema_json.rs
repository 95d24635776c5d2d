//! The JSON Schema of a playbook, generated from the types, for editors and for our own checks.

use super::schema::Playbook;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value as Json;

/// The JSON Schema as it stands in `playbooks/playbook.schema.json`, with a final newline.
pub fn json_schema() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).expect("a JSON value has no key that is not text");
    text.push('\n');
    text
}

/// The JSON Schema (draft 2020-12) as a value.
pub(super) fn schema() -> Json {
    let settings = SchemaSettings::draft2020_12().with_transform(NoNull);
    settings.into_generator().into_root_schema_for::<Playbook>().to_value()
}

/// A key that may be absent may not be written without a value: `artifacts:` followed by nothing is a slip, and
/// reading it as "all artifacts" would run something else than the author meant.
#[derive(Clone)]
struct NoNull;

impl Transform for NoNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Json::Array(types)) = schema.get_mut("type") {
            types.retain(|t| t != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                schema.insert("type".into(), one);
            }
        }
        if let Some(Json::Array(forms)) = schema.get_mut("anyOf") {
            forms.retain(|form| form.get("type").is_none_or(|t| t != "null"));
        }
        if schema.get("default").is_some_and(Json::is_null) {
            schema.remove("default");
        }
        transform_subschemas(self, schema);
    }
}
