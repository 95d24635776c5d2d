//! What a file of an unknown family says of itself: its own keys, and the sizes that every decoder's container has
//! under a common name.

use crate::formats::{Checkpoint, Container};
use crate::inspect;
use crate::models;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Every plain metadata value under its own key (in a GGUF, without the architecture's prefix), and beside it the
/// family and, where the file gives them, `n_layers`, `n_heads`, `n_kv_heads`, `hidden_size`, `vocab_size`.
pub(super) fn settings(checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let family = models::unknown_family(checkpoint).unwrap_or_default();
    let prefix = format!("{family}.");
    let (in_gguf, skip): (bool, &[&str]) = match checkpoint.container {
        // What describes the file and not the model.
        Container::Gguf(_) => (true, &["general.", "tokenizer.", "split.", "quantize."]),
        Container::Hf(_) => (false, &["torch_dtype", "dtype", "transformers_version", "_name_or_path"]),
        Container::Apr(_) => {
            (false, &["tokenizer.", "name", "source", "original_format", "total_size", "quantization"])
        }
    };
    let mut found = BTreeMap::from([("family".to_owned(), family)]);
    for (key, value) in inspect::metadata(&checkpoint.container) {
        if skip.iter().any(|s| key.starts_with(s)) {
            continue;
        }
        let key = if in_gguf { key.strip_prefix(&prefix).unwrap_or(&key).to_owned() } else { key };
        let text = match value {
            Json::String(text) => text,
            Json::Number(number) => number.to_string(),
            Json::Bool(flag) => flag.to_string(),
            Json::Null | Json::Array(_) | Json::Object(_) => continue,
        };
        if let Some((name, _)) = COMMON.iter().find(|(_, keys)| keys.contains(&key.as_str())) {
            found.insert((*name).to_owned(), text.clone());
        }
        found.insert(key, text);
    }
    if let Some(rows) = checkpoint.get("token_embd.weight").map(|t| t.tensor.shape.rows()) {
        found.entry("vocab_size".to_owned()).or_insert_with(|| rows.to_string());
    }
    found
}

/// Common names, and what containers call them.
const COMMON: &[(&str, &[&str])] = &[
    ("n_layers", &["block_count", "num_hidden_layers", "num_layers", "n_layer"]),
    ("n_heads", &["attention.head_count", "num_attention_heads", "num_heads", "n_head"]),
    ("n_kv_heads", &["attention.head_count_kv", "num_key_value_heads", "num_kv_heads"]),
    ("hidden_size", &["embedding_length", "hidden_size", "d_model", "n_embd"]),
    ("vocab_size", &["vocab_size"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{GgufHeader, GgufValue};

    #[test]
    fn sizes_have_common_names_and_what_describes_the_file_is_left_out() {
        let pair = |key: &str, value| (key.to_owned(), value);
        let metadata = vec![
            pair("general.architecture", GgufValue::String("mamba".into())),
            pair("general.name", GgufValue::String("x".into())),
            pair("mamba.block_count", GgufValue::U32(24)),
            pair("mamba.ssm.state_size", GgufValue::U32(16)),
            pair("tokenizer.ggml.bos_token_id", GgufValue::U32(0)),
        ];
        let header = GgufHeader { version: 3, alignment: 32, metadata };
        let file =
            Checkpoint::new("x".into(), Container::Gguf(header), Vec::new(), Vec::new()).expect("no names");
        let found: Vec<_> = settings(&file).into_iter().collect();
        let expected =
            [("block_count", "24"), ("family", "mamba"), ("n_layers", "24"), ("ssm.state_size", "16")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
