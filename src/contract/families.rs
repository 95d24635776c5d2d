//! Families as contract: `contracts/families/*.yaml` names every tensor in its three dialects and gives its
//! shape as an expression of the config. `models` builds its tables from these rows and from nothing else.

use crate::{Error, Kind, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One family's tensors and the names that recognise it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyContract {
    /// Family id: `llama`.
    pub family: String,
    /// What an HF folder says.
    pub hf: HfRules,
    /// What a GGUF says.
    pub gguf: GgufRules,
    /// What is known of aprender 0.72 and the family.
    #[serde(default)]
    pub aprender: AprenderRules,
    /// Every tensor, in model order.
    pub tensors: Vec<TensorRow>,
}

/// How an HF folder of the family is recognised and named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HfRules {
    /// Values of `architectures`; the first is written.
    pub architectures: Vec<String>,
    /// Values of `model_type`; the first is written.
    pub model_types: Vec<String>,
    /// A prefix that checkpoints of the bare model leave out.
    #[serde(default)]
    pub optional_prefix: Option<String>,
    /// Stored tensors that are no weights (masks, recomputed buffers), with `{n}` for the layer.
    #[serde(default)]
    pub ignored: Vec<String>,
}

/// How a GGUF of the family is recognised and stored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GgufRules {
    /// `general.architecture`.
    pub architecture: String,
    /// Whether rows marked `rope` are stored as interleaved pairs.
    pub rope_pairs: bool,
    /// A tensor that is a setting: the divisors of the rotary frequencies, `[head_dim / 2]`.
    #[serde(default)]
    pub rope_freqs: Option<String>,
    /// Tensors that change the computation in a way this program does not do.
    #[serde(default)]
    pub refused: Vec<Refused>,
}

/// What aprender 0.72 does with the family.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AprenderRules {
    /// What it does not compute, so that it does not run the family, from its own import neither; `None` where it runs.
    pub lacks: Option<String>,
}

/// A tensor that is known and refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Stored name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// One tensor of a family.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRow {
    /// Canonical name, `{n}` for the layer.
    pub name: String,
    /// Name in an HF folder. Rows with one name are fused there along `out`, in table order.
    pub hf: String,
    /// Name in a GGUF; fused as in `hf`.
    pub gguf: String,
    /// HF-style name inside an APR file, where it differs from `hf`.
    #[serde(default)]
    pub apr_hf: Option<String>,
    /// Canonical shape, outermost first.
    pub shape: Vec<DimExpr>,
    /// What the tensor is for.
    pub role: Role,
    /// When it exists.
    #[serde(default)]
    pub when: When,
    /// Whether its rows belong to rotary pairs.
    #[serde(default)]
    pub rope: bool,
    /// Whether HF folders and aprender's APR files store it `[in, out]`.
    #[serde(default)]
    pub conv1d: bool,
    /// Whether the norm multiplies by `1 + w` and HF folders store `w`; every other container stores `1 + w`.
    #[serde(default)]
    pub unit_offset: bool,
}

/// What a tensor is for; decides how conversion encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Token embedding.
    Embedding,
    /// Learned positions.
    Positions,
    /// Output projection to the vocabulary.
    Head,
    /// Linear weight.
    Linear,
    /// Norm weight.
    Norm,
    /// Any bias.
    Bias,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Role] =
        &[Role::Embedding, Role::Positions, Role::Head, Role::Linear, Role::Norm, Role::Bias];
}

/// When a tensor exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// In every checkpoint of the family.
    #[default]
    Always,
    /// Where the config has biases on the attention projections.
    AttentionBias,
    /// Where the config has biases in the feed-forward.
    MlpBias,
    /// Where the head is not the embedding.
    UntiedHead,
}

/// The sizes that shape expressions speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of `models::ModelConfig`
pub struct Dims {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub max_positions: usize,
}

/// A product of sizes: `n_heads * head_dim`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DimExpr(Vec<Factor>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Factor {
    VocabSize,
    HiddenSize,
    IntermediateSize,
    NHeads,
    NKvHeads,
    HeadDim,
    MaxPositions,
}

impl DimExpr {
    /// The value for these sizes, or `None` where the product overflows.
    pub fn eval(&self, dims: &Dims) -> Option<usize> {
        self.0.iter().try_fold(1usize, |product, factor| product.checked_mul(factor.of(dims)))
    }
}

impl Factor {
    fn of(self, dims: &Dims) -> usize {
        match self {
            Factor::VocabSize => dims.vocab_size,
            Factor::HiddenSize => dims.hidden_size,
            Factor::IntermediateSize => dims.intermediate_size,
            Factor::NHeads => dims.n_heads,
            Factor::NKvHeads => dims.n_kv_heads,
            Factor::HeadDim => dims.head_dim,
            Factor::MaxPositions => dims.max_positions,
        }
    }
}

impl TryFrom<String> for DimExpr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let factor = |word: &str| match word.trim() {
            "vocab_size" => Ok(Factor::VocabSize),
            "hidden_size" => Ok(Factor::HiddenSize),
            "intermediate_size" => Ok(Factor::IntermediateSize),
            "n_heads" => Ok(Factor::NHeads),
            "n_kv_heads" => Ok(Factor::NKvHeads),
            "head_dim" => Ok(Factor::HeadDim),
            "max_positions" => Ok(Factor::MaxPositions),
            other => Err(format!("`{other}` in `{text}` is no size of a model")),
        };
        text.split('*').map(factor).collect::<Result<Vec<_>, _>>().map(DimExpr)
    }
}

impl TensorRow {
    /// The HF-style name inside an APR file.
    pub fn apr_hf(&self) -> &str {
        self.apr_hf.as_deref().unwrap_or(&self.hf)
    }

    /// Whether there is one such tensor per layer.
    pub fn per_layer(&self) -> bool {
        self.name.contains("{n}")
    }
}

impl FamilyContract {
    /// Parses and checks one `contracts/families/*.yaml`; `file` names it in errors.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the YAML is not such a contract or contradicts itself.
    pub fn parse(file: &str, yaml: &str) -> Result<FamilyContract> {
        let contract: FamilyContract =
            serde_yaml::from_str(yaml).map_err(|e| Error::new(Kind::Usage, file, e.to_string()))?;
        contract.check().map_err(|what| Error::new(Kind::Usage, file, what))?;
        Ok(contract)
    }

    fn check(&self) -> Result<(), String> {
        if self.hf.architectures.is_empty() || self.hf.model_types.is_empty() {
            return Err("hf.architectures and hf.model_types each need one entry or more".to_owned());
        }
        let mut seen = BTreeMap::new();
        for row in &self.tensors {
            if seen.insert(&row.name, ()).is_some() {
                return Err(format!("tensor `{}` is listed twice", row.name));
            }
            let layered = |name: &str| name.contains("{n}") == row.per_layer();
            if !layered(&row.hf) || !layered(&row.gguf) || !layered(row.apr_hf()) {
                return Err(format!(
                    "tensor `{}`: `{{n}}` must stand in all of its names or in none",
                    row.name
                ));
            }
            if row.conv1d && row.shape.len() != 2 {
                return Err(format!("tensor `{}`: conv1d needs two dimensions", row.name));
            }
        }
        self.check_fusion(|row| &row.hf)?;
        self.check_fusion(|row| &row.gguf)
    }

    /// Fused rows must be neighbours of one kind, or their concatenation has no meaning.
    fn check_fusion(&self, name: impl Fn(&TensorRow) -> &str) -> Result<(), String> {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, row) in self.tensors.iter().enumerate() {
            if let Some(&start) = first.get(name(row)) {
                let (head, previous) = (&self.tensors[start], &self.tensors[i - 1]);
                let alike = head.shape.get(1..) == row.shape.get(1..)
                    && head.conv1d == row.conv1d
                    && head.when == row.when
                    && head.role == row.role;
                if name(previous) != name(row) || !alike {
                    return Err(format!("`{}` cannot be fused into `{}`", row.name, name(row)));
                }
            } else {
                first.insert(name(row), i);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "family: x\nhf: { architectures: [X], model_types: [x] }\ngguf: { architecture: x, rope_pairs: false }\ntensors:\n";

    fn refusal(rows: &str) -> String {
        FamilyContract::parse("x.yaml", &format!("{HEAD}{rows}")).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_contract_that_contradicts_itself_is_refused() {
        let row = |name: &str, hf: &str, rest: &str| {
            format!(
                "  - {{ name: {name:?}, hf: {hf:?}, gguf: {name:?}, shape: [hidden_size], role: norm{rest} }}\n"
            )
        };
        assert!(refusal(&(row("a", "a", "") + &row("a", "b", ""))).contains("listed twice"));
        assert!(refusal(&row("{n}.a", "a", "")).contains("`{n}`"));
        assert!(refusal(&row("a", "a", ", conv1d: true")).contains("two dimensions"));
        assert!(refusal(&row("a", "a", ", colour: red")).contains("colour"));
        let split = row("a", "f", "") + &row("b", "b", "") + &row("c", "f", "");
        assert!(refusal(&split).contains("cannot be fused"));
    }

    #[test]
    fn a_shape_expression_is_a_product_of_known_sizes() {
        let dims = Dims {
            vocab_size: 2,
            hidden_size: 3,
            intermediate_size: 5,
            n_heads: 7,
            n_kv_heads: 11,
            head_dim: 13,
            max_positions: usize::MAX,
        };
        let eval = |text: &str| DimExpr::try_from(text.to_owned()).map(|e| e.eval(&dims));
        assert_eq!(eval("n_heads * head_dim"), Ok(Some(91)));
        assert_eq!(eval("max_positions * vocab_size"), Ok(None), "overflow is no size");
        assert!(eval("n_heads + head_dim").is_err());
    }
}
