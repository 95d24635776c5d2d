//! What a container says beside its tensors, as one JSON object whatever the container.

use crate::formats::{Container, GgufArray, GgufValue};
use serde_json::{Map, Value as Json, json};

/// Every metadata key with its value, in file order; for an HF folder, `config.json`.
pub fn metadata(container: &Container) -> Map<String, Json> {
    match container {
        Container::Hf(folder) => folder.config.clone(),
        Container::Gguf(header) => {
            header.metadata.iter().map(|(k, v)| (k.clone(), value_to_json(v))).collect()
        }
        Container::Apr(header) => header.metadata.clone(),
    }
}

/// A vocabulary of a hundred thousand tokens tells a reader nothing: its length and its beginning do.
pub fn shorten(value: &mut Json) {
    const SHOWN: usize = 8;
    if let Json::Array(items) = value
        && items.len() > SHOWN
    {
        let rest = items.len() - SHOWN;
        items.truncate(SHOWN);
        items.push(json!(format!("… {rest} more")));
    }
}

fn value_to_json(value: &GgufValue) -> Json {
    match value {
        GgufValue::U8(v) => json!(v),
        GgufValue::I8(v) => json!(v),
        GgufValue::U16(v) => json!(v),
        GgufValue::I16(v) => json!(v),
        GgufValue::U32(v) => json!(v),
        GgufValue::I32(v) => json!(v),
        GgufValue::F32(v) => json!(v),
        GgufValue::Bool(v) => json!(v),
        GgufValue::String(v) => json!(v),
        GgufValue::U64(v) => json!(v),
        GgufValue::I64(v) => json!(v),
        GgufValue::F64(v) => json!(v),
        GgufValue::Array(items) => array_to_json(items),
    }
}

fn array_to_json(array: &GgufArray) -> Json {
    match array {
        GgufArray::U8(v) => json!(v),
        GgufArray::I8(v) => json!(v),
        GgufArray::U16(v) => json!(v),
        GgufArray::I16(v) => json!(v),
        GgufArray::U32(v) => json!(v),
        GgufArray::I32(v) => json!(v),
        GgufArray::F32(v) => json!(v),
        GgufArray::Bool(v) => json!(v),
        GgufArray::String(v) => json!(v),
        GgufArray::U64(v) => json!(v),
        GgufArray::I64(v) => json!(v),
        GgufArray::F64(v) => json!(v),
        GgufArray::Array(v) => Json::Array(v.iter().map(array_to_json).collect()),
    }
}
