//! Small synthetic models for tests: every canonical value is a function of its name and place, and each
//! container is assembled value by value from first principles, not by the code under test.

use super::names::{Naming, Presence, Slot, slots};
use super::{Biases, FAMILIES, Family, ModelConfig};
use crate::contract::families::TensorRow;
use crate::formats::{Checkpoint, Container, GgufHeader, GgufValue, HfFolder, NamedTensor};
use crate::quant;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) const HEADS: usize = 4;
pub(crate) const LAYERS: usize = 2;
pub(crate) const VOCAB: usize = 40;
pub(crate) const POSITIONS: usize = 32;
pub(crate) const WINDOW: usize = 8;

/// A model of one family, to be put into a container.
pub(crate) struct Tiny {
    pub family: &'static dyn Family,
    pub hidden: usize,
    pub inner: usize,
    pub kv_heads: usize,
    pub tied: bool,
    /// llama and qwen3: biases on attention and feed-forward.
    pub biased: bool,
}

impl Tiny {
    pub fn new(family: &str) -> Tiny {
        let family = *FAMILIES.iter().find(|f| f.id() == family).expect("a family of the table");
        let kv_heads = if family.id() == "gpt2" { HEADS } else { 2 };
        Tiny { family, hidden: 64, inner: 96, kv_heads, tied: true, biased: false }
    }

    pub fn hf(&self, dtype: DType) -> Checkpoint {
        let folder = HfFolder { config: self.hf_config(), ..HfFolder::default() };
        checkpoint(Container::Hf(folder), self.stored(Naming::Hf, dtype))
    }

    /// Weights in `dtype`, vectors and positions F32, as llama.cpp demands.
    pub fn gguf(&self, dtype: DType) -> Checkpoint {
        let header = GgufHeader { version: 3, alignment: 32, metadata: self.gguf_metadata() };
        checkpoint(Container::Gguf(header), self.stored(Naming::Gguf, dtype))
    }

    pub fn hf_config(&self) -> Map<String, Json> {
        let config = match self.family.id() {
            "gpt2" => json!({
                "model_type": "gpt2", "n_embd": self.hidden, "n_head": HEADS, "n_layer": LAYERS, "n_inner": self.inner,
                "n_positions": POSITIONS, "vocab_size": VOCAB, "tie_word_embeddings": self.tied,
            }),
            id => json!({
                "model_type": if id == "gemma3" { "gemma3_text" } else { id }, "hidden_size": self.hidden, "num_attention_heads": HEADS,
                "num_key_value_heads": self.kv_heads, "num_hidden_layers": LAYERS, "intermediate_size": self.inner,
                "max_position_embeddings": POSITIONS, "vocab_size": VOCAB, "rms_norm_eps": 1e-5,
                "tie_word_embeddings": self.tied, "attention_bias": self.biased, "mlp_bias": self.biased,
                "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
            }),
        };
        let mut config = config.as_object().expect("an object was written").clone();
        match self.family.id() {
            "qwen3" => drop(config.insert("head_dim".into(), json!(self.hidden / HEADS))),
            "mistral" => drop(config.insert("sliding_window".into(), json!(WINDOW))),
            "gemma3" => {
                let local = json!({ "rope_theta": 10000.0, "rope_type": "default" });
                let full = json!({ "rope_theta": 1e6, "rope_type": "default" });
                config.extend([
                    ("head_dim".into(), json!(self.hidden / HEADS)),
                    ("query_pre_attn_scalar".into(), json!(self.hidden / HEADS)),
                    ("sliding_window".into(), json!(WINDOW)),
                    ("layer_types".into(), json!(["sliding_attention", "full_attention"])),
                    ("rope_parameters".into(), json!({ "full_attention": full, "sliding_attention": local })),
                ]);
            }
            _ => {}
        }
        config
    }

    fn gguf_metadata(&self) -> Vec<(String, GgufValue)> {
        let arch = self.family.contract().gguf.architecture.as_str();
        let sizes = [
            ("block_count", LAYERS),
            ("context_length", POSITIONS),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.inner),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", self.kv_heads),
        ];
        let mut keys = vec![("general.architecture".to_owned(), GgufValue::String(arch.to_owned()))];
        keys.extend(sizes.map(|(name, n)| (format!("{arch}.{name}"), GgufValue::U32(n as u32))));
        let eps = if arch == "gpt2" { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
        keys.push((format!("{arch}.attention.{eps}"), GgufValue::F32(1e-5)));
        let window = (format!("{arch}.attention.sliding_window"), GgufValue::U32(WINDOW as u32));
        match self.family.id() {
            "mistral" => keys.push(window),
            "gemma3" => {
                keys.push(window);
                keys.push(("gemma3.attention.sliding_window_pattern".to_owned(), GgufValue::U32(2)));
            }
            _ => {}
        }
        keys
    }

    pub fn slots(&self) -> Vec<Slot> {
        let dims = crate::contract::families::Dims {
            vocab_size: VOCAB,
            hidden_size: self.hidden,
            intermediate_size: self.inner,
            n_heads: HEADS,
            n_kv_heads: self.kv_heads,
            head_dim: self.hidden / HEADS,
            max_positions: POSITIONS,
        };
        let biases = Biases { attention: self.biased, mlp: self.biased };
        let presence = Presence { biases, head: !self.tied };
        slots(self.family.contract(), &dims, LAYERS, presence).expect("small sizes do not overflow")
    }

    /// Canonical name to canonical values, row-major.
    pub fn truth(&self) -> BTreeMap<String, Vec<f32>> {
        self.slots().iter().map(|slot| (slot.name(), values(slot))).collect()
    }

    fn stored(&self, naming: Naming, dtype: DType) -> Vec<NamedTensor> {
        let contract = self.family.contract();
        let mut fused: Vec<(String, Vec<Slot>)> = Vec::new();
        for slot in self.slots() {
            let name = slot.stored_name(naming, contract);
            match fused.last_mut().filter(|(last, _)| *last == name) {
                Some((_, members)) => members.push(slot),
                None => fused.push((name, vec![slot])),
            }
        }
        let pairs = (naming == Naming::Gguf && contract.gguf.rope_pairs).then_some(self.hidden / HEADS);
        fused.iter().map(|(name, members)| named(name, members, naming, pairs, dtype)).collect()
    }
}

fn named(name: &str, members: &[Slot], naming: Naming, pairs: Option<usize>, dtype: DType) -> NamedTensor {
    let mut shape = members[0].shape.0.clone();
    shape[0] = members.iter().map(|m| m.shape.0[0]).sum();
    let mut data: Vec<f32> = members
        .iter()
        .flat_map(|m| match pairs {
            Some(head_dim) if m.row.rope => interleave(values(m), m.shape.0[0], head_dim / 2),
            Some(_) | None => values(m),
        })
        .collect();
    if naming == Naming::Hf && members[0].row.conv1d {
        let (outs, ins) = (shape[0], shape[1]);
        data = (0..outs * ins).map(|k| data[(k % outs) * ins + k / outs]).collect();
        shape.reverse();
    }
    if naming == Naming::Hf && members[0].row.unit_offset {
        data.iter_mut().for_each(|x| *x -= 1.0);
    }
    let positions = members[0].row.name.starts_with("position");
    let narrow = naming == Naming::Hf || (shape.len() == 2 && !positions);
    let dtype = if narrow { dtype } else { DType::F32 };
    tensor(name, dtype, Shape(shape), &data)
}

/// llama.cpp's `permute`: [heads, 2, half, ...] to [heads, half, 2, ...].
fn interleave(values: Vec<f32>, rows: usize, half: usize) -> Vec<f32> {
    let width = values.len() / rows;
    let mut out = Vec::with_capacity(values.len());
    for head in 0..rows / (2 * half) {
        for i in 0..half {
            for j in 0..2 {
                let row = head * 2 * half + j * half + i;
                out.extend_from_slice(&values[row * width..(row + 1) * width]);
            }
        }
    }
    out
}

/// Reproducible values in (-1, 1); norms near 1, so that nothing is implausible.
fn values(slot: &Slot) -> Vec<f32> {
    let seed = slot.name().bytes().fold(17u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    let norm = is_norm(slot.row);
    (0..slot.shape.numel() as u32)
        .map(|i| {
            let hash = (i ^ seed).wrapping_mul(0x9E37_79B1).rotate_left(13).wrapping_mul(0x85EB_CA6B);
            // Seven bits at most, so that F16 and BF16 hold the value exactly.
            let (seven, four) = ((hash >> 25) as u8, (hash >> 28) as u8);
            if norm { 1.0 + f32::from(four) / 32.0 } else { f32::from(seven) / 64.0 - 1.0 }
        })
        .collect()
}

fn is_norm(row: &TensorRow) -> bool {
    row.name.ends_with("norm.weight")
}

pub(crate) fn tensor(name: &str, dtype: DType, shape: Shape, values: &[f32]) -> NamedTensor {
    let bytes = quant::from_f32(dtype, &shape, values).expect("fixture values fit every encoding");
    let tensor = Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) };
    NamedTensor { name: name.to_owned(), tensor, offset: 0, file: 0 }
}

pub(crate) fn checkpoint(container: Container, tensors: Vec<NamedTensor>) -> Checkpoint {
    let path = PathBuf::from("tiny");
    Checkpoint::new(path.clone(), container, vec![path], tensors).expect("names are distinct")
}

/// The same checkpoint with its tensors changed.
pub(crate) fn with_tensors(from: &Checkpoint, change: impl FnOnce(&mut Vec<NamedTensor>)) -> Checkpoint {
    let mut tensors = from.tensors().to_vec();
    change(&mut tensors);
    let container = match &from.container {
        Container::Hf(folder) => Container::Hf(folder.clone()),
        Container::Gguf(header) => Container::Gguf(header.clone()),
        Container::Apr(header) => Container::Apr(header.clone()),
    };
    checkpoint(container, tensors)
}

/// The config a tiny model must be read as.
pub(crate) fn is_tiny(config: &ModelConfig) -> bool {
    (config.hidden_size, config.n_layers, config.n_heads, config.intermediate_size, config.vocab_size)
        == (64, LAYERS, HEADS, 96, VOCAB)
        && (config.head_dim, config.max_positions, config.norm_eps) == (16, POSITIONS, 1e-5)
}

/// Fails with the first tensor that differs, not with a page of numbers.
pub(crate) fn assert_same_values(found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, values) in expected {
        let first = found[name].iter().zip(values).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!((found[name].len(), first), (values.len(), None), "{name}: length and first difference");
    }
}
