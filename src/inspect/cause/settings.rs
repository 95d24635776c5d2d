//! Settings that differ, and what each does to a model.

use super::Cause;
use std::collections::BTreeMap;

/// The causes among settings that differ, in order of what they break. Both sides give every setting by the name of
/// its field, as text that is equal exactly where the values are.
pub fn of_settings(original: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = original
        .iter()
        .filter_map(|(name, value)| {
            let other = found.get(name).map_or("nothing", String::as_str);
            (other != value).then(|| of_setting(name, value, other))
        })
        .collect();
    causes.sort_by(|a, b| b.score.total_cmp(&a.score));
    causes
}

/// The cause that a setting is `found` where it was `original`.
pub fn of_setting(name: &str, original: &str, found: &str) -> Cause {
    let fewer = match (original.parse::<usize>(), found.parse::<usize>()) {
        (Ok(a), Ok(b)) => b < a,
        _ => false,
    };
    // The score orders them: what breaks every token first, what only cuts a context last.
    let (id, score) = match name {
        "n_layers" if fewer => ("dropped-layer", 1.0),
        "n_layers" => ("layer-count", 1.0),
        "rope_theta" | "rope_dim" | "position" => ("rope-theta", 0.98),
        "rope_scaling" => ("rope-scaling", 0.97),
        "window" => ("window", 0.97),
        "attn_scale" => ("attention-scale", 0.97),
        "embed_scale" => ("embed-scale", 0.97),
        "norm_eps" => ("norm-eps", 0.97),
        "tied_embeddings" => ("tied-head", 0.96),
        "vocab_size" => ("vocabulary-padding", 0.9),
        "max_positions" => ("context-length", 0.6),
        "n_heads" | "n_kv_heads" => ("head-count", 0.97),
        "head_dim" => ("head-dim", 0.97),
        "family" => ("family", 0.95),
        _ => ("switch", 0.95),
    };
    Cause { id, sentence: format!("{name} is {found}, {original} in the original"), score }
}

/// The cause ids that can make an operation go wrong while its weights are right.
pub fn acts_on(id: &str, operation: &str) -> bool {
    match operation {
        "token_embd" => id == "embed-scale",
        "rope_q" | "rope_k" => matches!(id, "rope-theta" | "rope-scaling" | "window" | "head-dim" | "family"),
        "attention" => matches!(id, "attention-scale" | "window" | "head-count" | "family"),
        "output" => matches!(id, "tied-head" | "norm-eps" | "family"),
        "ffn_act" => matches!(id, "switch" | "family"),
        norm if norm.ends_with("norm") => matches!(id, "norm-eps" | "switch" | "family"),
        _ => false,
    }
}
