//! Binding: a checkpoint's tensors against its family's table. Every canonical tensor finds its stored one,
//! every stored one is accounted for, and all that is wrong is told at once.

use super::canonical::{CanonicalTensor, Place};
use super::cause;
use super::family::{Biases, Family, Settings, family_of};
use super::fields::{GgufFields, JsonFields};
use super::names::{Naming, Presence, Slot, generalize, naming_of, slots};
use super::{ModelConfig, RowOrder};
use crate::contract::families::{FamilyContract, Role, TensorRow, When};
use crate::contract::layout::Layout;
use crate::formats::{Checkpoint, Container, NamedTensor};
use crate::quant;
use crate::tensor::{Shape, Tensor};
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// A checkpoint seen through its family.
pub(crate) struct Bound {
    pub family: &'static dyn Family,
    pub config: ModelConfig,
    pub biases: Biases,
    /// Table order, globals first.
    pub tensors: Vec<CanonicalTensor>,
}

/// One thing that is wrong with a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// Stored name of the tensor at fault, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// Flat index of the first element at fault, row-major as stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What is due there, where that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is there instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The classic mistake that looks like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Whether nothing that the model says means anything before this is mended.
    pub critical: bool,
    #[serde(skip)]
    pub(super) kind: Kind,
    /// Canonical pattern, for the stage it belongs to.
    #[serde(skip)]
    pub(super) canonical: Option<String>,
}

impl Problem {
    pub(super) fn of_model(kind: Kind, what: impl Into<String>) -> Self {
        Problem {
            tensor: None,
            index: None,
            what: what.into(),
            expected: None,
            found: None,
            cause: None,
            critical: true,
            kind,
            canonical: None,
        }
    }

    pub(super) fn of_tensor(name: impl Into<String>, canonical: Option<&TensorRow>, what: String) -> Self {
        let canonical = canonical.map(|row| row.name.clone());
        let critical = canonical.as_ref().is_some_and(|name| Layout::builtin().is_critical(name));
        let tensor = Some(name.into());
        Problem { tensor, critical, canonical, ..Problem::of_model(Kind::Contract, what) }
    }

    /// What is wrong and what looks like that.
    pub fn sentence(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}; likely cause: {cause}", self.what),
            None => self.what.clone(),
        }
    }

    pub(super) fn into_error(self, subject: &str) -> Error {
        let error = Error::new(self.kind, subject, self.sentence());
        match (self.tensor, self.index) {
            (Some(tensor), Some(index)) => error.at(format!("tensor `{tensor}`[{index}]")),
            (Some(tensor), None) => error.at(format!("tensor `{tensor}`")),
            (None, _) => error,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.tensor, self.index) {
            (Some(tensor), Some(index)) => write!(f, "`{tensor}`[{index}]: {}", self.sentence()),
            (Some(tensor), None) => write!(f, "`{tensor}`: {}", self.sentence()),
            (None, _) => f.write_str(&self.sentence()),
        }
    }
}

/// Binds, or fails with the first problem and the number of others.
pub(crate) fn bind_sound(checkpoint: &Checkpoint) -> Result<Bound> {
    let (bound, problems) = bind(checkpoint)?;
    let others = problems.len().saturating_sub(1);
    match problems.into_iter().next() {
        None => Ok(bound),
        Some(first) => {
            let error = first.into_error(&checkpoint.path.display().to_string());
            let hint = format!("{others} more problems: `check` lists them all");
            Err(if others > 0 { error.hint(hint) } else { error })
        }
    }
}

/// Binds what can be bound and lists what is wrong.
///
/// # Errors
/// Where the family or its settings cannot be read at all, so that there is nothing to bind against.
pub(super) fn bind(checkpoint: &Checkpoint) -> Result<(Bound, Vec<Problem>)> {
    let family = family_of(checkpoint)?;
    let contract = family.contract();
    let subject = || checkpoint.path.display().to_string();
    let naming = naming_of(family, checkpoint).ok_or_else(|| {
        let what = format!(
            "none of its {} tensors has a name of family {}",
            checkpoint.tensors().len(),
            family.id()
        );
        Error::new(Kind::Contract, subject(), what)
    })?;
    let mut settings = read_settings(family, naming, checkpoint)?;
    if let Some(tied) = tied_by_aprender(contract, naming, checkpoint) {
        settings.config.tied_embeddings = tied;
    }
    let config = settings.config.clone();
    // Every layer has a tensor, so a larger count is a broken file, and nothing is allocated for it.
    if config.n_layers > checkpoint.tensors().len() {
        let what = format!("{} layers cannot be in {} tensors", config.n_layers, checkpoint.tensors().len());
        return Err(Error::new(Kind::Contract, subject(), what));
    }
    let presence = presence_of(&settings, contract, naming, checkpoint);
    let slots = slots(contract, &config.dims(), config.n_layers, presence)
        .ok_or_else(|| Error::new(Kind::Malformed, subject(), "the sizes of the config overflow"))?;
    let storage = Storage::of(&settings, contract, naming, checkpoint);
    let mut problems: Vec<_> =
        config.contradictions().into_iter().map(|what| Problem::of_model(Kind::Malformed, what)).collect();
    let tensors = bind_slots(&slots, &storage, checkpoint, &mut problems);
    account_for_rest(&slots, &storage, checkpoint, &config, &mut problems);
    cause::explain(&mut problems, contract, &config, checkpoint);
    Ok((Bound { family, config, biases: presence.biases, tensors }, problems))
}

/// How this checkpoint stores what the table describes.
struct Storage {
    contract: &'static FamilyContract,
    naming: Naming,
    /// Rows marked `conv1d` are `[in, out]`.
    conv1d: bool,
    /// Rows marked `unit_offset` are stored without the 1.
    unit_offset: bool,
    /// Rows marked `rope` are interleaved pairs of heads this wide.
    rope_pairs: Option<usize>,
    /// The sizes that shapes follow from.
    config: ModelConfig,
}

impl Storage {
    fn of(
        settings: &Settings,
        contract: &'static FamilyContract,
        naming: Naming,
        checkpoint: &Checkpoint,
    ) -> Self {
        let (conv1d, pairs) = match &checkpoint.container {
            Container::Hf(_) => (true, false),
            Container::Gguf(_) => (false, contract.gguf.rope_pairs),
            Container::Apr(header) => {
                // aprender's own files keep Conv1D order; a contract file never does, whatever its names.
                let aprender = naming == Naming::AprHf && !header.declares_contract();
                (aprender, settings.interleaved_rope)
            }
        };
        let unit_offset = matches!(checkpoint.container, Container::Hf(_));
        let rope_pairs = pairs.then_some(settings.config.head_dim);
        Storage { contract, naming, conv1d, unit_offset, rope_pairs, config: settings.config.clone() }
    }

    fn order(&self, row: &TensorRow) -> RowOrder {
        match self.rope_pairs {
            Some(head_dim) if row.rope => RowOrder::RopePairs { head_dim },
            Some(_) | None => RowOrder::Canonical,
        }
    }
}

fn read_settings(family: &'static dyn Family, naming: Naming, checkpoint: &Checkpoint) -> Result<Settings> {
    let contract = family.contract();
    let stored = |role: Role| {
        let row = contract.tensors.iter().find(|row| row.role == role)?;
        checkpoint.get(naming.pattern(contract, row))
    };
    let rows = stored(Role::Embedding).map(|t| t.tensor.shape.rows());
    let path = &checkpoint.path;
    match &checkpoint.container {
        Container::Hf(folder) => family.read_hf(&JsonFields::new(path, &folder.config, None)),
        Container::Gguf(header) => {
            let rows = rows.ok_or_else(|| {
                let error = Error::new(Kind::Contract, path.display().to_string(), "is missing");
                error.at("tensor `token_embd.weight`")
            })?;
            let has_head = stored(Role::Head).is_some();
            let mut fields = GgufFields::new(path, header, &contract.gguf.architecture, rows, has_head);
            let freqs = contract.gguf.rope_freqs.as_ref().and_then(|name| checkpoint.get(name));
            fields.rope_freqs = freqs.map(|t| quant::to_f32(&t.tensor)).transpose()?;
            family.read_gguf(&fields)
        }
        Container::Apr(header) => family.read_apr(&JsonFields::new(path, &header.metadata, rows)),
    }
}

/// aprender's importer always stores a head and marks the file as tied whether it is or not; in its files the
/// stored head decides. `None` for every other file.
fn tied_by_aprender(contract: &FamilyContract, naming: Naming, checkpoint: &Checkpoint) -> Option<bool> {
    match &checkpoint.container {
        Container::Apr(header) if naming == Naming::AprHf && !header.declares_contract() => {}
        Container::Apr(_) | Container::Hf(_) | Container::Gguf(_) => return None,
    }
    let stored = |role: Role| {
        let row = contract.tensors.iter().find(|row| row.role == role)?;
        checkpoint.get(naming.pattern(contract, row))
    };
    Some(is_copy(stored(Role::Head)?, stored(Role::Embedding)?))
}

fn presence_of(
    settings: &Settings,
    contract: &FamilyContract,
    naming: Naming,
    checkpoint: &Checkpoint,
) -> Presence {
    let stored = |when: When| {
        let patterns: HashSet<&str> =
            contract.tensors.iter().filter(|r| r.when == when).map(|r| naming.pattern(contract, r)).collect();
        checkpoint.tensors().iter().any(|t| patterns.contains(generalize(&t.name).0.as_str()))
    };
    let biases = Biases {
        attention: settings.attention_bias.unwrap_or_else(|| stored(When::AttentionBias)),
        mlp: settings.mlp_bias.unwrap_or_else(|| stored(When::MlpBias)),
    };
    Presence { biases, head: !settings.config.tied_embeddings }
}

/// Finds the stored tensor of every slot; fused ones are taken apart in table order.
fn bind_slots(
    slots: &[Slot],
    storage: &Storage,
    checkpoint: &Checkpoint,
    problems: &mut Vec<Problem>,
) -> Vec<CanonicalTensor> {
    let mut bound = Vec::with_capacity(slots.len());
    let mut rest = slots;
    while let Some(first) = rest.first() {
        let stored = first.stored_name(storage.naming, storage.contract);
        let members =
            rest.iter().take_while(|s| s.stored_name(storage.naming, storage.contract) == stored).count();
        let (fused, others) = rest.split_at(members);
        rest = others;
        let Some(found) = checkpoint.get(&stored) else {
            let mut problem = Problem::of_tensor(&stored, Some(first.row), "is missing".to_owned());
            problem.expected = Some(first.shape.to_string());
            problem.found = Some("nothing".to_owned());
            if first.row.role == Role::Head {
                problem.what = "is missing, and the config does not tie the head to the embedding".to_owned();
            }
            problems.push(problem);
            continue;
        };
        if let Some(problem) = misfit(found, fused, storage) {
            problems.push(problem);
            continue;
        }
        let mut start = 0;
        for slot in fused {
            bound.push(CanonicalTensor {
                name: slot.name(),
                stored: stored.clone(),
                role: slot.row.role,
                shape: slot.shape.clone(),
                dtype: found.tensor.dtype,
                slot: slot.clone(),
                place: Place {
                    tensor: found.tensor.clone(),
                    start,
                    transposed: storage.conv1d && slot.row.conv1d,
                    unit_offset: storage.unit_offset && slot.row.unit_offset,
                    order: storage.order(slot.row),
                },
            });
            start += slot.shape.0[0];
        }
    }
    bound
}

/// What is wrong with a stored tensor that is to hold these slots.
fn misfit(found: &NamedTensor, fused: &[Slot], storage: &Storage) -> Option<Problem> {
    let row = fused[0].row;
    let Tensor { dtype, shape, .. } = &found.tensor;
    let mut expected = fused[0].shape.0.clone();
    expected[0] = fused.iter().map(|slot| slot.shape.0[0]).sum();
    if storage.conv1d && row.conv1d {
        expected.reverse();
    }
    let expected = Shape(expected);
    if *shape != expected {
        let what = format!("expected {expected}, found {shape}");
        return Some(Problem {
            cause: cause::of_shape(row, &expected, shape, &storage.config),
            expected: Some(expected.to_string()),
            found: Some(shape.to_string()),
            ..Problem::of_tensor(&found.name, Some(row), what)
        });
    }
    if !dtype.is_plain_float() && !dtype.is_quantized() {
        let what = format!("is {dtype}, which is no encoding of weights");
        return Some(Problem { kind: Kind::Unsupported, ..Problem::of_tensor(&found.name, Some(row), what) });
    }
    None
}

/// Every stored tensor that no slot took must be declared, or it is an error.
fn account_for_rest(
    slots: &[Slot],
    storage: &Storage,
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    problems: &mut Vec<Problem>,
) {
    let contract = storage.contract;
    let taken: HashSet<String> = slots.iter().map(|s| s.stored_name(storage.naming, contract)).collect();
    let ignored: HashSet<&str> = storage.naming.ignored(contract).into_iter().collect();
    let patterns: HashMap<&str, &TensorRow> =
        contract.tensors.iter().rev().map(|row| (storage.naming.pattern(contract, row), row)).collect();
    for stored in checkpoint.tensors().iter().filter(|t| !taken.contains(&t.name)) {
        let (pattern, layer) = generalize(&stored.name);
        let setting =
            storage.naming == Naming::Gguf && contract.gguf.rope_freqs.as_ref() == Some(&stored.name);
        if setting {
            continue;
        }
        if ignored.contains(pattern.as_str()) && layer.is_some_and(|n| n < config.n_layers) {
            continue;
        }
        let refused = contract.gguf.refused.iter().find(|r| r.name == stored.name);
        let row = patterns.get(pattern.as_str()).copied();
        let problem = match (refused, row, layer) {
            (Some(refused), _, _) => Problem {
                kind: Kind::Unsupported,
                ..Problem::of_tensor(&stored.name, None, refused.reason.clone())
            },
            (None, Some(row), None) if row.role == Role::Head => {
                match differs_from_embedding(stored, storage, checkpoint) {
                    // A tied head is stored once; a second copy says nothing new.
                    None => continue,
                    Some(what) => Problem::of_tensor(&stored.name, Some(row), what),
                }
            }
            (None, Some(row), Some(n)) if n >= config.n_layers => {
                let what = format!("is of layer {n}, but the config has {} layers", config.n_layers);
                Problem::of_tensor(&stored.name, Some(row), what)
            }
            (None, Some(row), _) => {
                let what = "is stored, but the config says that there is none".to_owned();
                Problem::of_tensor(&stored.name, Some(row), what)
            }
            (None, None, _) => {
                let what = format!("is no tensor of family {}", contract.family);
                Problem::of_tensor(&stored.name, None, what)
            }
        };
        problems.push(problem);
    }
}

fn differs_from_embedding(head: &NamedTensor, storage: &Storage, checkpoint: &Checkpoint) -> Option<String> {
    let row = storage.contract.tensors.iter().find(|row| row.role == Role::Embedding)?;
    let embedding = checkpoint.get(storage.naming.pattern(storage.contract, row))?;
    (!is_copy(head, embedding))
        .then(|| format!("differs from `{}`, though the config ties the two", embedding.name))
}

fn is_copy(head: &NamedTensor, embedding: &NamedTensor) -> bool {
    head.tensor.dtype == embedding.tensor.dtype
        && head.tensor.shape == embedding.tensor.shape
        && head.tensor.bytes.plain() == embedding.tensor.bytes.plain()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tiny, assert_same_values, checkpoint, is_tiny, tensor, with_tensors};
    use super::*;
    use crate::formats::{GgufHeader, GgufValue, HfFolder};
    use crate::models::{FAMILIES, RopeScaling, canonical_tensors, open};
    use crate::tensor::DType;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn read(checkpoint: &Checkpoint) -> BTreeMap<String, Vec<f32>> {
        let tensors = canonical_tensors(checkpoint).expect("a sound checkpoint");
        tensors.iter().map(|t| (t.name.clone(), t.to_f32().expect("decodes"))).collect()
    }

    fn refusal(checkpoint: &Checkpoint) -> String {
        open(checkpoint).expect_err("must be refused").to_string()
    }

    /// Splitting, transposing and un-permuting give the very values the model was made of.
    #[test]
    fn every_container_of_every_family_holds_the_canonical_values() {
        for family in FAMILIES {
            for (tied, biased) in [(true, false), (false, false), (false, family.id() == "llama")] {
                let tiny = Tiny { tied, biased, ..Tiny::new(family.id()) };
                for stored in [tiny.hf(DType::BF16), tiny.gguf(DType::F16)] {
                    assert_same_values(&read(&stored), &tiny.truth());
                    let model = open(&stored).expect("a sound checkpoint");
                    assert!(is_tiny(&model.config), "{:?}", model.config);
                    assert_eq!(model.config.tied_embeddings, tied);
                    assert_eq!(model.weights.len(), tiny.truth().len());
                }
            }
        }
    }

    #[test]
    fn the_bare_model_leaves_its_prefix_out_and_masks_are_no_weights() {
        let tiny = Tiny::new("gpt2");
        let bare = with_tensors(&tiny.hf(DType::F32), |tensors| {
            for t in tensors.iter_mut() {
                t.name = t.name.trim_start_matches("transformer.").to_owned();
            }
            tensors.push(tensor("h.1.attn.bias", DType::F32, [1, 1, 2, 2].into(), &[1., 0., 1., 1.]));
            tensors.push(tensor("h.0.attn.masked_bias", DType::F32, [1].into(), &[-1e4]));
        });
        assert_same_values(&read(&bare), &tiny.truth());
    }

    #[test]
    fn a_missing_an_unknown_and_a_misshapen_tensor_are_each_named() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let name = "model.layers.1.mlp.up_proj.weight";
        let missing = with_tensors(&sound, |tensors| tensors.retain(|t| t.name != name));
        assert!(refusal(&missing).contains(&format!("tensor `{name}`: is missing")), "{}", refusal(&missing));
        let unknown = with_tensors(&sound, |tensors| {
            tensors.push(tensor("model.layers.1.mlp.router.weight", DType::F32, [1].into(), &[1.]));
        });
        assert!(
            refusal(&unknown).contains("`model.layers.1.mlp.router.weight`: is no tensor of family llama")
        );
        let misshapen = with_tensors(&sound, |tensors| {
            for t in tensors.iter_mut().filter(|t| t.name == name) {
                t.tensor.shape.0.reverse();
            }
        });
        let text = refusal(&misshapen);
        assert!(text.contains(name) && text.contains("expected [96, 64], found [64, 96]"), "{text}");
        assert!(text.contains("saved transposed"), "{text}");
        let extra_layer = with_tensors(&sound, |tensors| {
            tensors.push(tensor("model.layers.2.input_layernorm.weight", DType::F32, [64].into(), &[1.; 64]));
        });
        assert!(refusal(&extra_layer).contains("is of layer 2, but the config has 2 layers"));
    }

    #[test]
    fn a_bias_that_the_config_denies_is_an_error() {
        let tiny = Tiny { biased: true, ..Tiny::new("llama") };
        let mut folder = HfFolder { config: tiny.hf_config(), ..HfFolder::default() };
        folder.config.insert("attention_bias".into(), json!(false));
        let denied = checkpoint(Container::Hf(folder), tiny.hf(DType::F32).tensors().to_vec());
        assert!(refusal(&denied).contains("the config says that there is none"), "{}", refusal(&denied));
    }

    #[test]
    fn a_tied_head_may_be_stored_twice_but_not_differently() {
        let sound = Tiny::new("qwen2").hf(DType::F32);
        let doubled = |change: f32| {
            with_tensors(&sound, |tensors| {
                let mut values = crate::quant::to_f32(&tensors[0].tensor).expect("F32");
                values[0] += change;
                tensors.push(tensor("lm_head.weight", DType::F32, tensors[0].tensor.shape.clone(), &values));
            })
        };
        assert_same_values(&read(&doubled(0.0)), &Tiny::new("qwen2").truth());
        assert!(refusal(&doubled(0.5)).contains("differs from `model.embed_tokens.weight`"));
        let untied = Tiny { tied: false, ..Tiny::new("qwen2") }.hf(DType::F32);
        let headless = with_tensors(&untied, |tensors| tensors.retain(|t| t.name != "lm_head.weight"));
        assert!(refusal(&headless).contains("does not tie the head"));
    }

    #[test]
    fn rope_divisors_are_read_where_the_family_has_them_and_refused_elsewhere() {
        let scaled = |family: &str, divisors: &[f32]| {
            with_tensors(&Tiny::new(family).gguf(DType::F32), |tensors| {
                let shape = [divisors.len()].into();
                tensors.push(tensor("rope_freqs.weight", DType::F32, shape, divisors));
            })
        };
        let divisors = [1., 1., 1., 1.5, 4., 8., 8., 8.];
        let model = open(&scaled("llama", &divisors)).expect("llama 3 has them");
        assert_eq!(model.config.rope_scaling, RopeScaling::Factors(divisors.to_vec()));
        assert!(!model.weights.contains_key("rope_freqs.weight"), "a setting is no weight");
        let text = refusal(&scaled("llama", &divisors[..5]));
        assert!(text.contains("5 frequency divisors for 8 frequencies"), "{text}");
        let text = refusal(&scaled("llama", &[1., 1., 1., 1., 1., 1., 1., 0.]));
        assert!(text.contains("frequency divisor 0 is not positive"), "{text}");
        let text = refusal(&scaled("qwen2", &divisors));
        assert!(text.contains("`rope_freqs.weight`") && text.contains("no tensor of family qwen2"), "{text}");
    }

    #[test]
    fn switches_that_the_decoder_does_not_have_are_refused_by_name() {
        let refused = |family: &str, key: &str, value: serde_json::Value| {
            let tiny = Tiny::new(family);
            let mut folder = HfFolder { config: tiny.hf_config(), ..HfFolder::default() };
            folder.config.insert(key.into(), value);
            let text = refusal(&checkpoint(Container::Hf(folder), tiny.hf(DType::F32).tensors().to_vec()));
            assert!(text.contains(key), "{text}");
        };
        refused("llama", "hidden_act", json!("gelu"));
        refused("llama", "rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}));
        refused("llama", "rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4}));
        refused(
            "phi3",
            "rope_scaling",
            json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
        );
        refused("phi3", "partial_rotary_factor", json!(0.75));
        refused("qwen3", "use_sliding_window", json!(true));
        refused("gemma3", "layer_types", json!(["full_attention", "sliding_attention"]));
        refused("gemma3", "final_logit_softcapping", json!(30.0));
        refused("gemma3", "hidden_activation", json!("silu"));
        refused("llama", "rms_norm_eps", json!("tiny"));
        refused("qwen2", "use_sliding_window", json!(true));
        refused("gpt2", "activation_function", json!("relu"));
        refused("gpt2", "scale_attn_by_inverse_layer_idx", json!(true));
    }

    #[test]
    fn an_unknown_family_and_a_hostile_layer_count_are_errors() {
        let sound = Tiny::new("llama").gguf(DType::F32);
        let with = |key: &str, value: GgufValue| {
            let Container::Gguf(mut header) = sound_header(&sound) else { unreachable!("a GGUF was made") };
            header.metadata.retain(|(k, _)| k != key);
            header.metadata.push((key.to_owned(), value));
            checkpoint(Container::Gguf(header), sound.tensors().to_vec())
        };
        let mamba = with("general.architecture", GgufValue::String("mamba".into()));
        assert!(refusal(&mamba).contains("no family answers to `mamba`"));
        let deep = with("llama.block_count", GgufValue::U32(u32::MAX >> 1));
        assert!(refusal(&deep).contains("layers cannot be in"), "{}", refusal(&deep));
        let theta = with("llama.rope.freq_base", GgufValue::F32(-1.0));
        assert!(refusal(&theta).contains("rope_theta -1 is not positive"), "{}", refusal(&theta));
    }

    fn sound_header(checkpoint: &Checkpoint) -> Container {
        match &checkpoint.container {
            Container::Gguf(h) => Container::Gguf(GgufHeader { metadata: h.metadata.clone(), ..*h }),
            Container::Hf(_) | Container::Apr(_) => unreachable!("a GGUF was made"),
        }
    }
}
