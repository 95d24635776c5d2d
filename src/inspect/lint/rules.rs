//! The rules, each a row of one table.

use super::{File, Rule, Severity};
use crate::contract::layout::Layout;
use crate::formats::{Container, GgufValue};
use crate::inspect::metadata;
use crate::models;
use crate::tokenizer::TokenKind;
use serde_json::Value as Json;
use std::collections::HashMap;

type Say<'a> = &'a mut dyn FnMut(String, String);

/// Every rule, gravest first.
pub const RULES: &[Rule] = &[
    Rule {
        id: "tokenizer-missing",
        severity: Severity::Error,
        doc: "A GGUF or APR file holds its tokenizer; nobody can run it alone otherwise.",
        now: "convert again from a folder that holds tokenizer.json",
        judge: tokenizer_missing,
    },
    Rule {
        id: "end-token-missing",
        severity: Severity::Error,
        doc: "Some token ends a generation.",
        now: "set the end token in the source's generation_config.json and convert again",
        judge: end_token_missing,
    },
    Rule {
        id: "vector-in-blocks",
        severity: Severity::Error,
        doc: "Norms and biases are plain floats: kernels read them value by value.",
        now: "keep 1-D tensors F32 when quantising",
        judge: vector_in_blocks,
    },
    Rule {
        id: "duplicate-token",
        severity: Severity::Error,
        doc: "No two ids share a text; llama.cpp refuses a vocabulary where two do.",
        now: "give padding tokens distinct texts and the type `unused`",
        judge: duplicate_token,
    },
    Rule {
        id: "tied-head-stored-twice",
        severity: Severity::Warn,
        doc: "A head that equals the embedding is stored once.",
        now: "drop the head and tie it in the config: the file shrinks, nothing else changes",
        judge: tied_head_stored_twice,
    },
    Rule {
        id: "unaligned-data",
        severity: Severity::Warn,
        doc: "Tensor data begin where contracts/tensor-layout.yaml wants them to, so that they can be mapped.",
        now: "write the file again with padding between the tensors",
        judge: unaligned_data,
    },
    Rule {
        id: "vocabulary-short",
        severity: Severity::Warn,
        doc: "Every row of the embedding has a token.",
        now: "pad the vocabulary with unused tokens up to the embedding's rows",
        judge: vocabulary_short,
    },
    Rule {
        id: "family-unknown",
        severity: Severity::Warn,
        doc: "This program knows the architecture, or it can only judge the file's structure.",
        now: "judge inference with a runtime that knows the architecture",
        judge: family_unknown,
    },
    Rule {
        id: "license-missing",
        severity: Severity::Warn,
        doc: "A GGUF or APR file says under which license its weights are.",
        now: "write the license of the weights into the metadata",
        judge: license_missing,
    },
    Rule {
        id: "name-missing",
        severity: Severity::Warn,
        doc: "A GGUF or APR file says what the model is called.",
        now: "write the model's name into the metadata",
        judge: name_missing,
    },
    Rule {
        id: "chat-template-missing",
        severity: Severity::Warn,
        doc: "A vocabulary with turn markers comes with the chat template that uses them.",
        now: "take chat_template from the source's tokenizer_config.json, unless this is a base model",
        judge: chat_template_missing,
    },
    Rule {
        id: "checksum-missing",
        severity: Severity::Warn,
        doc: "An APR file ends with its checksum.",
        now: "write the file again: the footer is a CRC-32 of all before it",
        judge: checksum_missing,
    },
    Rule {
        id: "unknown-key",
        severity: Severity::Info,
        doc: "Every metadata key is one that readers know.",
        now: "check its spelling: readers ignore a key that they do not know",
        judge: unknown_key,
    },
    Rule {
        id: "vocabulary-unpadded",
        severity: Severity::Info,
        doc: "The embedding's rows are a multiple of 32, so that kernels and shards need no rest.",
        now: "nothing, unless speed matters: pad the vocabulary when training",
        judge: vocabulary_unpadded,
    },
    Rule {
        id: "old-version",
        severity: Severity::Info,
        doc: "The container is of its newest version.",
        now: "convert it once with a current tool",
        judge: old_version,
    },
];

/// Rows of an embedding are best a multiple of this: a warp, a block of the quantisers, a cache line of F16.
const PADDING: usize = 32;

fn file(f: &File) -> String {
    f.checkpoint.path.display().to_string()
}

fn is_one_file(f: &File) -> bool {
    match f.checkpoint.container {
        Container::Hf(_) => false,
        Container::Gguf(_) | Container::Apr(_) => true,
    }
}

fn tokenizer_missing(f: &File, say: Say) {
    let there = match &f.checkpoint.container {
        Container::Hf(_) => return,
        Container::Gguf(header) => header.get("tokenizer.ggml.tokens").is_some(),
        Container::Apr(header) => header.get("tokenizer.vocabulary").is_some(),
    };
    if !there {
        say(file(f), "it holds no tokenizer".to_owned());
    }
}

fn end_token_missing(f: &File, say: Say) {
    if f.tokenizer.is_some_and(|spec| spec.stop_ids().is_empty()) {
        say("tokenizer".to_owned(), "no token ends a generation".to_owned());
    }
}

fn vector_in_blocks(f: &File, say: Say) {
    for t in f.checkpoint.tensors() {
        if t.tensor.shape.ndim() == 1 && t.tensor.dtype.is_quantized() {
            say(t.name.clone(), format!("a vector of {} is {}", t.tensor.shape.numel(), t.tensor.dtype));
        }
    }
}

fn duplicate_token(f: &File, say: Say) {
    let Some(spec) = f.tokenizer else { return };
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(spec.tokens.len());
    for (id, token) in spec.tokens.iter().enumerate() {
        if token.kind == TokenKind::Unused {
            continue;
        }
        if let Some(other) = first.insert(&token.text, id) {
            say(format!("token {id}"), format!("has the text of token {other}, {:?}", token.text));
        }
    }
}

fn tied_head_stored_twice(f: &File, say: Say) {
    const HEADS: [&str; 2] = ["output.weight", "lm_head.weight"];
    const EMBEDDINGS: [&str; 4] =
        ["token_embd.weight", "model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"];
    let find = |names: &[&str]| names.iter().find_map(|name| f.checkpoint.get(name));
    let (Some(head), Some(embedding)) = (find(&HEADS), find(&EMBEDDINGS)) else { return };
    if head.tensor.shape == embedding.tensor.shape
        && head.tensor.dtype == embedding.tensor.dtype
        && head.tensor.bytes.plain() == embedding.tensor.bytes.plain()
    {
        let bytes = head.tensor.bytes.stored_len();
        say(head.name.clone(), format!("{bytes} bytes that `{}` holds already", embedding.name));
    }
}

fn unaligned_data(f: &File, say: Say) {
    let wanted = match &f.checkpoint.container {
        Container::Gguf(header) => header.alignment,
        Container::Hf(_) | Container::Apr(_) => {
            Layout::builtin().format(f.checkpoint.kind().name()).alignment
        }
    };
    let off: Vec<_> =
        f.checkpoint.tensors().iter().filter(|t| wanted > 0 && !t.offset.is_multiple_of(wanted)).collect();
    if let Some(first) = off.first() {
        let what =
            format!("byte {} is no multiple of {wanted}; {} tensors are like that", first.offset, off.len());
        say(first.name.clone(), what);
    }
}

fn vocabulary_short(f: &File, say: Say) {
    let (Some(spec), Some(config)) = (f.tokenizer, f.config) else { return };
    // A folder's tokenizer never holds padding: its readers pad.
    if is_one_file(f) && spec.tokens.len() < config.vocab_size {
        let what = format!("{} tokens for {} rows of the embedding", spec.tokens.len(), config.vocab_size);
        say("tokenizer".to_owned(), what);
    }
}

fn family_unknown(f: &File, say: Say) {
    if let Some(name) = models::unknown_family(f.checkpoint) {
        let tensors = f.view.map_or(0, |view| view.tensors.len());
        say(file(f), format!("no family answers to `{name}`; {tensors} tensors are judged as stored"));
    }
}

fn license_missing(f: &File, say: Say) {
    text_missing(f, "general.license", "license", say);
}

fn name_missing(f: &File, say: Say) {
    text_missing(f, "general.name", "name", say);
}

fn text_missing(f: &File, gguf: &str, apr: &str, say: Say) {
    let (key, value) = match &f.checkpoint.container {
        // A folder says it in its model card, which is prose.
        Container::Hf(_) => return,
        Container::Gguf(header) => (gguf, header.get(gguf).and_then(GgufValue::as_str)),
        Container::Apr(header) => (apr, header.get(apr).and_then(Json::as_str)),
    };
    if value.is_none_or(|text| text.trim().is_empty()) {
        say(key.to_owned(), "is absent or empty".to_owned());
    }
}

fn chat_template_missing(f: &File, say: Say) {
    const MARKERS: [&str; 5] =
        ["<|im_start|>", "<start_of_turn>", "<|start_header_id|>", "[INST]", "<|user|>"];
    let Some(spec) = f.tokenizer else { return };
    if spec.chat_template.is_some() {
        return;
    }
    let marker = spec.tokens.iter().find(|token| MARKERS.contains(&token.text.as_str()));
    if let Some(marker) = marker {
        say("tokenizer".to_owned(), format!("token {:?} marks turns, and no template uses it", marker.text));
    }
}

fn checksum_missing(f: &File, say: Say) {
    if let Container::Apr(header) = &f.checkpoint.container
        && header.footer.is_none()
    {
        say(file(f), "it ends without a checksum: a flipped bit goes unnoticed".to_owned());
    }
}

fn unknown_key(f: &File, say: Say) {
    let known: fn(&str, &str) -> bool = match &f.checkpoint.container {
        // Every architecture has keys of its own in config.json.
        Container::Hf(_) => return,
        Container::Gguf(_) => |key, architecture| {
            let prefix = key.split('.').next().unwrap_or(key);
            prefix == architecture || GGUF_PREFIXES.contains(&prefix)
        },
        Container::Apr(_) => |key, _| {
            let prefix = key.split_once('.').map(|(prefix, _)| prefix);
            APR_KEYS.contains(&key) || prefix.is_some_and(|p| APR_PREFIXES.contains(&p))
        },
    };
    let metadata = metadata(&f.checkpoint.container);
    let architecture = metadata.get("general.architecture").and_then(Json::as_str).unwrap_or_default();
    for key in metadata.keys().filter(|key| !known(key, architecture)) {
        say(key.clone(), "no reader is known to look at this key".to_owned());
    }
}

/// First parts of GGUF keys beside the architecture's own (ggml's `docs/gguf.md` and llama.cpp's `gguf-py`).
const GGUF_PREFIXES: &[&str] = &[
    "general",
    "tokenizer",
    "split",
    "quantize",
    "adapter",
    "training",
    "imatrix",
    "rope",
    "clip",
    "diffusion",
];

/// First parts of dotted APR keys (reference A.6).
const APR_PREFIXES: &[&str] = &["tokenizer", "model", "apr_qa_runner"];

/// APR's typed keys, their aliases, and the custom ones that importers write (reference A.6).
const APR_KEYS: &[&str] = &[
    "model_type",
    "name",
    "description",
    "author",
    "license",
    "data_source",
    "data_license",
    "version",
    "source",
    "original_format",
    "created_at",
    "total_size",
    "param_count",
    "quantization",
    "sharding",
    "chat_template",
    "chat_format",
    "special_tokens",
    "architecture",
    "hf_architecture",
    "hf_model_type",
    "hidden_size",
    "hidden_dim",
    "d_model",
    "n_embd",
    "num_layers",
    "n_layers",
    "num_hidden_layers",
    "n_layer",
    "num_heads",
    "n_heads",
    "num_attention_heads",
    "n_head",
    "num_kv_heads",
    "n_kv_heads",
    "num_key_value_heads",
    "vocab_size",
    "n_vocab",
    "intermediate_size",
    "ffn_dim",
    "intermediate_dim",
    "n_inner",
    "max_position_embeddings",
    "max_seq_len",
    "context_length",
    "n_ctx",
    "rope_theta",
    "rope_type",
    "rope_scaling",
    "rms_norm_eps",
    "layer_norm_eps",
    "norm_eps",
    "head_dim",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "tensor_shapes",
    "source_metadata",
    "tied_embeddings",
    "format_dialect",
    "conversion_notes",
];

fn vocabulary_unpadded(f: &File, say: Say) {
    if let Some(config) = f.config
        && !config.vocab_size.is_multiple_of(PADDING)
    {
        let rest = config.vocab_size % PADDING;
        say("embedding".to_owned(), format!("{} rows leave a rest of {rest}", config.vocab_size));
    }
}

fn old_version(f: &File, say: Say) {
    if let Container::Gguf(header) = &f.checkpoint.container
        && header.version < 3
    {
        say(file(f), format!("GGUF version {}; 3 is the newest", header.version));
    }
}
