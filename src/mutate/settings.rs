//! Hyperparameters that a file says wrongly: the family's own writers say them, as they say the right ones.

use super::draft::Draft;
use super::{Done, Plant};
use crate::formats::{Container, GgufValue};
use crate::models::{FAMILIES, ModelConfig, Position, RopeScaling, Window, apr_metadata};
use crate::stats::Dice;
use crate::{Error, Kind, Result};
use serde_json::{Map, Value as Json};

/// Lets the file say the changed settings: keys that come out differently are changed, keys that are no longer written
/// go.
pub(super) fn change(draft: &mut Draft, change: impl FnOnce(&mut ModelConfig)) -> Result<()> {
    let (family, biases) = (draft.bound.family, draft.bound.biases);
    let old = draft.config().clone();
    let mut new = old.clone();
    change(&mut new);
    match &mut draft.side {
        Container::Hf(folder) => {
            replace(&mut folder.config, &family.write_hf(&old, biases), family.write_hf(&new, biases));
        }
        Container::Apr(header) => {
            let rope_type = header.get("rope_type").and_then(Json::as_u64).unwrap_or(2);
            let keys = |config: &ModelConfig| apr_metadata(config, family.id(), rope_type);
            replace(&mut header.metadata, &keys(&old), keys(&new));
        }
        Container::Gguf(header) => {
            let (old, new) = (family.write_gguf(&old), family.write_gguf(&new));
            let is_in = |keys: &[(String, GgufValue)], key: &str| keys.iter().any(|(k, _)| k == key);
            header.metadata.retain(|(key, _)| !is_in(&old, key) || is_in(&new, key));
            for (key, value) in new.into_iter().filter(|pair| !old.contains(pair)) {
                match header.metadata.iter_mut().find(|(k, _)| *k == key) {
                    Some(found) => found.1 = value,
                    None => header.metadata.push((key, value)),
                }
            }
        }
    }
    Ok(())
}

fn replace(file: &mut Map<String, Json>, old: &Map<String, Json>, new: Map<String, Json>) {
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        file.remove(key);
    }
    for (key, value) in new {
        if old.get(&key) != Some(&value) {
            file.insert(key, value);
        }
    }
}

fn done(
    draft: &mut Draft,
    setting: &str,
    what: String,
    to: impl FnOnce(&mut ModelConfig),
) -> Result<Option<Done>> {
    change(draft, to)?;
    Done::of(setting, what)
}

/// The rotary base that readers take where none is said; another one where that is the model's own.
pub(super) const THETA: Plant = |draft, _| {
    let Position::Rope { theta, dim } = draft.config().position else { return Ok(None) };
    let other = if theta == 10_000.0 { 500_000.0 } else { 10_000.0 };
    done(draft, "rope_theta", format!("rope_theta {theta} became {other}"), |c| {
        c.position = Position::Rope { theta: other, dim };
    })
};

/// Rotary scaling lost; where there is none, one that does not belong there.
pub(super) const SCALING: Plant = |draft, _| {
    if draft.config().position == Position::Learned {
        return Ok(None);
    }
    let other = match draft.config().rope_scaling {
        RopeScaling::None => RopeScaling::Linear { factor: 4.0 },
        RopeScaling::Linear { .. } | RopeScaling::Llama3(_) | RopeScaling::Factors(_) => RopeScaling::None,
    };
    if let Some(name) = &draft.bound.family.contract().gguf.rope_freqs {
        draft.tensors.retain(|t| t.name != *name);
    }
    let what = format!("rope_scaling {} became {}", draft.config().rope_scaling.describe(), other.describe());
    done(draft, "rope_scaling", what, |c| c.rope_scaling = other)
};

/// Another epsilon of the norms.
pub(super) const EPS: Plant = |draft, _| {
    let eps = draft.config().norm_eps;
    let other = if eps < 5e-6 { 1e-5 } else { 1e-6 };
    done(draft, "norm_eps", format!("norm_eps {eps} became {other}"), |c| c.norm_eps = other)
};

/// As many key heads as query heads.
pub(super) const KV_HEADS: Plant = |draft, _| {
    let (queries, keys) = (draft.config().n_heads, draft.config().n_kv_heads);
    let other = if queries == keys { queries / 2 } else { queries };
    done(draft, "n_kv_heads", format!("n_kv_heads {keys} became {other}"), |c| c.n_kv_heads = other)
};

/// A head width of hidden over heads, where the model has its own.
pub(super) const HEAD_DIM: Plant = |draft, _| {
    let (width, derived) = (draft.config().head_dim, draft.config().hidden_size / draft.config().n_heads);
    if width == derived {
        return Ok(None);
    }
    done(draft, "head_dim", format!("head_dim {width} became {derived}, hidden over heads"), |c| {
        c.head_dim = derived;
        if let Position::Rope { dim, .. } = &mut c.position {
            *dim = derived;
        }
    })
};

/// Another scale of the attention scores.
pub(super) const ATTENTION_SCALE: Plant = |draft, _| {
    let scale = draft.config().attn_scale;
    // The next square: gemma's large models have 144 or 168 where the head is 128 wide.
    let other = (f64::from(scale).powi(-2) * 1.3125).round().sqrt().recip() as f32;
    done(draft, "attn_scale", format!("attn_scale {scale} became {other}"), |c| c.attn_scale = other)
};

/// No attention window.
pub(super) const WINDOW_LOST: Plant = |draft, _| {
    let Some(window) = draft.config().window else { return Ok(None) };
    done(draft, "window", format!("the window of {} is not said", window.size), |c| c.window = None)
};

/// Another attention window.
pub(super) const WINDOW_SIZE: Plant = |draft, dice| {
    let Some(window) = draft.config().window else { return Ok(None) };
    let other = if dice.below(2) == 0 { window.size / 2 } else { window.size - 1 };
    if other == 0 {
        return Ok(None);
    }
    done(draft, "window", format!("a window of {} became {other}", window.size), |c| {
        c.window = Some(Window { size: other, ..window });
    })
};

/// Full attention on other layers.
pub(super) const WINDOW_PATTERN: Plant = |draft, _| {
    let Some(window) = draft.config().window else { return Ok(None) };
    let Some(every) = window.global_every else { return Ok(None) };
    let other = if every == 2 { 4 } else { every / 2 };
    if other == 0 || other > draft.config().n_layers {
        return Ok(None);
    }
    done(draft, "window", format!("one full layer in {every} became one in {other}"), |c| {
        c.window = Some(Window { global_every: Some(other), ..window });
    })
};

/// The local layers with the rotary base of the others.
pub(super) const LOCAL_THETA: Plant = |draft, _| {
    let (Some(window), Position::Rope { theta, .. }) = (draft.config().window, &draft.config().position)
    else {
        return Ok(None);
    };
    let (Some(local), theta) = (window.local_theta, *theta) else { return Ok(None) };
    let other = if local == theta { theta / 10.0 } else { theta };
    done(draft, "window", format!("the local layers' theta {local} became {other}"), |c| {
        c.window = Some(Window { local_theta: Some(other), ..window });
    })
};

/// A shorter context.
pub(super) const CONTEXT: Plant = |draft, dice| {
    let length = draft.config().max_positions;
    let other = length / [2, 4][dice.below(2)];
    done(draft, "max_positions", format!("a context of {length} became {other}"), |c| c.max_positions = other)
};

/// Another number of layers than the file has.
pub(super) const LAYER_COUNT: Plant = |draft, dice| {
    let n = draft.config().n_layers;
    let other = if dice.below(2) == 0 { n + 1 } else { n - 1 };
    if other == 0 {
        return Ok(None);
    }
    done(draft, "n_layers", format!("{n} layers became {other}"), |c| c.n_layers = other)
};

/// Tied said untied, or untied tied.
pub(super) const TIE_FLAG: Plant = |draft, _| {
    let tied = draft.config().tied_embeddings;
    match &mut draft.side {
        Container::Hf(folder) => drop(folder.config.insert("tie_word_embeddings".into(), (!tied).into())),
        Container::Apr(header) => drop(header.metadata.insert("tied_embeddings".into(), (!tied).into())),
        Container::Gguf(_) => return Ok(None),
    }
    Done::of("tied_embeddings", format!("tied_embeddings {tied} became {}", !tied))
};

/// A switch of the decoder that the family does not have: soft caps, another activation.
pub(super) const SWITCH: Plant = |draft, dice| {
    let family = draft.bound.family.id();
    let (key, value): (&str, Json) = match (family, dice.below(2)) {
        ("gemma3", 0) => ("final_logit_softcapping", 30.0.into()),
        ("gemma3", _) => ("hidden_activation", "silu".into()),
        ("gpt2", 0) => ("activation_function", "gelu".into()),
        ("gpt2", _) => ("scale_attn_by_inverse_layer_idx", true.into()),
        (_, _) => ("hidden_act", "gelu".into()),
    };
    let Container::Hf(folder) = &mut draft.side else { return Ok(None) };
    let what = format!("{key} became {value}");
    folder.config.insert(key.into(), value);
    Done::of(key, what)
};

/// The file names another family.
pub(super) const FAMILY: Plant = |draft, dice| {
    let own = draft.bound.family;
    let others: Vec<_> = FAMILIES.iter().copied().filter(|f| f.id() != own.id()).collect();
    let Some(other) = dice.pick(&others).copied() else { return Ok(None) };
    let (from, to) = (own.contract(), other.contract());
    match &mut draft.side {
        Container::Hf(folder) => {
            let config = &mut folder.config;
            config.insert("architectures".into(), vec![Json::from(to.hf.architectures[0].clone())].into());
            config.insert("model_type".into(), to.hf.model_types[0].clone().into());
        }
        Container::Apr(header) => {
            for key in ["architecture", "model_type"] {
                header.metadata.insert(key.into(), other.id().into());
            }
            header.metadata.insert("hf_model_type".into(), to.hf.model_types[0].clone().into());
            header.metadata.insert("hf_architecture".into(), to.hf.architectures[0].clone().into());
        }
        Container::Gguf(header) => rename_architecture(&mut header.metadata, from_to(from, to), dice),
    }
    Done::of("family", format!("the file names {} and is {}", other.id(), own.id()))
};

type Contract = crate::contract::families::FamilyContract;

fn from_to<'a>(from: &'a Contract, to: &'a Contract) -> (&'a str, &'a str) {
    (&from.gguf.architecture, &to.gguf.architecture)
}

/// The name alone, or the prefix of every key with it.
fn rename_architecture(metadata: &mut [(String, GgufValue)], (from, to): (&str, &str), dice: &mut Dice) {
    let with_keys = dice.below(2) == 0;
    for (key, value) in metadata.iter_mut() {
        if key == "general.architecture" {
            *value = GgufValue::from(to);
        } else if let Some(rest) = key.strip_prefix(&format!("{from}.")).filter(|_| with_keys) {
            *key = format!("{to}.{rest}");
        }
    }
}

/// A metadata key that must be there, for defects that repeat one.
pub(super) fn layer_count_key(draft: &Draft) -> Result<String> {
    let missing = || Error::new(Kind::Unsupported, draft.subject(), "no key says how many layers there are");
    match &draft.side {
        Container::Gguf(header) => {
            header.metadata.iter().map(|(k, _)| k).find(|k| k.ends_with(".block_count")).cloned()
        }
        Container::Apr(header) => {
            ["num_layers", "n_layers"].iter().find(|k| header.get(k).is_some()).map(|k| (*k).to_owned())
        }
        Container::Hf(folder) => ["num_hidden_layers", "n_layer"]
            .iter()
            .find(|k| folder.config.contains_key(**k))
            .map(|k| (*k).to_owned()),
    }
    .ok_or_else(missing)
}
