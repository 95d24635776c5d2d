//! The mixtures of llama.cpp's `llama-quantize`: which encoding each matrix gets under a recipe, and why.
//! A tensor is judged by its GGUF name, whatever the target calls it, so that every container holds the same blocks.

use crate::models::ModelConfig;
use crate::quant::Quantize;
use crate::tensor::DType;

/// What the rules look at in a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct About {
    pub n_layers: usize,
    /// Query heads per key-value head.
    pub heads_per_kv: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// 80 layers of llama or qwen2, whose values are small beside the rest.
    pub is_70b: bool,
    /// Whether an importance matrix is given.
    pub importance: bool,
}

/// What the rules look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub about: About,
    /// Name in a GGUF of the family, `blk.{n}.attn_v.weight`.
    pub gguf: &'a str,
    /// Layer; 0 for tensors outside the layers.
    pub layer: usize,
    /// Elements of a row.
    pub row_len: usize,
}

impl About {
    pub fn new(config: &ModelConfig, importance: bool) -> About {
        About {
            n_layers: config.n_layers,
            heads_per_kv: config.n_heads / config.n_kv_heads.max(1),
            tied: config.tied_embeddings,
            // llama.cpp knows the size by the number of layers.
            is_70b: config.n_layers == 80 && ["llama", "mistral", "qwen2"].contains(&config.family.as_str()),
            importance,
        }
    }
}

/// An encoding, and why it is not the recipe's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mixed {
    pub dtype: DType,
    pub why: Option<String>,
}

/// The encoding of a matrix under `recipe`, fallbacks for narrow rows included.
pub(super) fn mix(recipe: Quantize, subject: &Subject) -> Mixed {
    let own = recipe.main();
    let (wanted, why) = match richer(recipe, subject) {
        Some((dtype, why)) if dtype != own => (dtype, Some(why.to_owned())),
        Some(_) | None => (own, None),
    };
    fit(wanted, why, subject.row_len)
}

/// What the recipe does for tensors that matter more.
fn richer(recipe: Quantize, s: &Subject) -> Option<(DType, &'static str)> {
    use Quantize as Q;
    let own = recipe.main();
    if s.is("output.weight") || (s.about.tied && s.is("token_embd.weight")) {
        if !s.row_len.is_multiple_of(own.block_len()) {
            return Some((DType::Q8_0, "the head, whose rows are no whole blocks"));
        }
        return (own != DType::Q8_0).then_some((DType::Q6_K, "the head"));
    }
    if s.is("token_embd.weight") {
        return None;
    }
    if s.has("attn_v.weight") || s.has("attn_qkv.weight") {
        let chosen = match recipe {
            Q::Q2_K if s.about.heads_per_kv >= 4 => {
                Some((DType::Q4_K, "values shared by four heads or more"))
            }
            Q::Q2_K => Some((DType::Q3_K, "values")),
            Q::Q2_K_S if s.about.heads_per_kv >= 4 => {
                Some((DType::Q4_K, "values shared by four heads or more"))
            }
            Q::Q3_K_M if s.layer < 2 => Some((DType::Q5_K, "values of the first two layers")),
            Q::Q3_K_M => Some((DType::Q4_K, "values")),
            Q::Q3_K_L => Some((DType::Q5_K, "values")),
            Q::Q4_K_M | Q::Q5_K_M if s.more_bits() => {
                Some((DType::Q6_K, "values of an outer or third layer"))
            }
            Q::Q4_K_S if s.layer < 4 => Some((DType::Q5_K, "values of the first four layers")),
            _ => None,
        };
        return match chosen.map_or(own, |(dtype, _)| dtype) {
            DType::Q3_K | DType::Q4_K if s.about.is_70b => Some((DType::Q5_K, "values of a 70 B model")),
            _ => chosen,
        };
    }
    if s.has("ffn_down") {
        return match recipe {
            Q::Q2_K => Some((DType::Q3_K, "down projections")),
            Q::Q2_K_S if s.layer < s.about.n_layers / 8 => {
                Some((DType::Q4_K, "down projections of the first eighth"))
            }
            Q::Q3_K_M if s.layer < s.about.n_layers / 16 => {
                Some((DType::Q5_K, "down projections of the first sixteenth"))
            }
            Q::Q3_K_M => Some((DType::Q4_K, "down projections")),
            Q::Q3_K_L => Some((DType::Q5_K, "down projections")),
            Q::Q4_K_M | Q::Q5_K_M if s.more_bits() => {
                Some((DType::Q6_K, "down projections of an outer or third layer"))
            }
            Q::Q4_K_S if s.layer < s.about.n_layers / 8 => {
                Some((DType::Q5_K, "down projections of the first eighth"))
            }
            // With importance these two go astray there; without, the old result is kept.
            Q::Q4_0 if s.about.importance && s.layer < s.about.n_layers / 8 => {
                Some((DType::Q4_1, "down projections of the first eighth, with importance"))
            }
            Q::Q5_0 if s.about.importance && s.layer < s.about.n_layers / 8 => {
                Some((DType::Q5_1, "down projections of the first eighth, with importance"))
            }
            _ => None,
        };
    }
    if s.has("attn_output.weight") {
        return match recipe {
            Q::Q2_K => Some((DType::Q3_K, "attention outputs")),
            Q::Q3_K_M => Some((DType::Q4_K, "attention outputs")),
            Q::Q3_K_L => Some((DType::Q5_K, "attention outputs")),
            _ => None,
        };
    }
    None
}

/// `wanted`, or what rows that are no whole number of its blocks can be.
fn fit(wanted: DType, why: Option<String>, row_len: usize) -> Mixed {
    let whole = |dtype: DType| row_len.is_multiple_of(dtype.block_len());
    if whole(wanted) {
        return Mixed { dtype: wanted, why };
    }
    let narrower = match wanted {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        other => other,
    };
    let dtype = if whole(narrower) { narrower } else { DType::F16 };
    let fallback = format!("rows of {row_len} are no whole number of {wanted} blocks");
    let why = why.map_or(fallback.clone(), |why| format!("{why}; {fallback}"));
    Mixed { dtype, why: Some(why) }
}

impl Subject<'_> {
    fn is(&self, name: &str) -> bool {
        self.gguf == name
    }

    fn has(&self, part: &str) -> bool {
        self.gguf.contains(part)
    }

    /// The first and the last eighth, and every third layer between.
    fn more_bits(&self) -> bool {
        let (l, n) = (self.layer, self.about.n_layers);
        l < n / 8 || l >= 7 * n / 8 || (l - n / 8) % 3 == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(gguf: &str, layer: usize) -> Subject<'_> {
        let about = About { n_layers: 32, heads_per_kv: 4, tied: false, is_70b: false, importance: false };
        Subject { about, gguf, layer, row_len: 4096 }
    }

    #[test]
    fn q4_k_m_spends_more_on_values_and_down_projections_of_some_layers() {
        let six: Vec<usize> = (0..32)
            .filter(|&l| mix(Quantize::Q4_K_M, &of("blk.{n}.ffn_down.weight", l)).dtype == DType::Q6_K)
            .collect();
        assert_eq!(six, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        let plain = mix(Quantize::Q4_K_M, &of("blk.{n}.attn_q.weight", 0));
        assert_eq!(plain, Mixed { dtype: DType::Q4_K, why: None });
        assert_eq!(mix(Quantize::Q4_K_M, &of("output.weight", 0)).dtype, DType::Q6_K);
        assert_eq!(mix(Quantize::Q4_K_M, &of("token_embd.weight", 0)).dtype, DType::Q4_K);
        let embedding = of("token_embd.weight", 0);
        let tied = Subject { about: About { tied: true, ..embedding.about }, ..embedding };
        assert_eq!(mix(Quantize::Q4_K_M, &tied).dtype, DType::Q6_K);
    }

    #[test]
    fn narrow_rows_fall_back_and_say_why() {
        let narrow = |row_len: usize, recipe: Quantize| {
            let found = mix(recipe, &Subject { row_len, ..of("blk.{n}.attn_q.weight", 9) });
            assert!(found.why.as_ref().is_some_and(|w| w.contains(&row_len.to_string())), "{found:?}");
            found.dtype
        };
        assert_eq!(narrow(576, Quantize::Q4_K_M), DType::Q5_0);
        assert_eq!(narrow(576, Quantize::Q5_K_M), DType::Q5_1);
        assert_eq!(narrow(576, Quantize::Q6_K), DType::Q8_0);
        assert_eq!(narrow(576, Quantize::Q2_K), DType::Q4_0);
        assert_eq!(narrow(40, Quantize::Q4_K_M), DType::F16);
        assert_eq!(narrow(40, Quantize::Q8_0), DType::F16);
    }

    #[test]
    fn importance_guards_the_first_down_projections() {
        let first = of("blk.{n}.ffn_down.weight", 1);
        assert_eq!(mix(Quantize::Q4_0, &first).dtype, DType::Q4_0);
        let guarded = Subject { about: About { importance: true, ..first.about }, ..first };
        assert_eq!(mix(Quantize::Q4_0, &guarded).dtype, DType::Q4_1);
        assert_eq!(mix(Quantize::Q5_0, &guarded).dtype, DType::Q5_1);
    }
}
