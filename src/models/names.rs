//! The name dialects: which style a checkpoint's names are in, and the stored name of every canonical tensor.

use super::family::{Biases, Family};
use crate::contract::families::{Dims, FamilyContract, TensorRow, When};
use crate::formats::{Checkpoint, FormatKind};
use crate::tensor::Shape;
use std::collections::HashSet;

/// A way of naming, and with it of storing, the tensors of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The contract's gguf-short, the canonical names: `0.q_proj.weight`.
    Short,
    /// GGUF: `blk.0.attn_q.weight`.
    Gguf,
    /// HF folder: `model.layers.0.self_attn.q_proj.weight`.
    Hf,
    /// HF folder of the bare model, without the family's optional prefix.
    HfBare,
    /// HF-style inside an APR file: as `Hf`, but q, k and v are always apart.
    AprHf,
}

impl Naming {
    /// The ways in which a container may name its tensors.
    pub fn of(kind: FormatKind) -> &'static [Naming] {
        match kind {
            FormatKind::HfFolder => &[Naming::Hf, Naming::HfBare],
            FormatKind::Gguf => &[Naming::Gguf],
            FormatKind::Apr => &[Naming::Short, Naming::AprHf, Naming::Gguf],
        }
    }

    /// The stored name pattern of a row, `{n}` for the layer.
    pub fn pattern<'a>(self, contract: &FamilyContract, row: &'a TensorRow) -> &'a str {
        match self {
            Naming::Short => &row.name,
            Naming::Gguf => &row.gguf,
            Naming::Hf => &row.hf,
            Naming::HfBare => bare(contract, &row.hf),
            Naming::AprHf => row.apr_hf(),
        }
    }

    /// Patterns of stored tensors that are no weights.
    pub fn ignored(self, contract: &FamilyContract) -> Vec<&str> {
        let hf = &contract.hf.ignored;
        match self {
            Naming::Hf => hf.iter().map(String::as_str).collect(),
            Naming::HfBare => hf.iter().map(|name| bare(contract, name)).collect(),
            Naming::Short | Naming::Gguf | Naming::AprHf => Vec::new(),
        }
    }
}

fn bare<'a>(contract: &FamilyContract, name: &'a str) -> &'a str {
    let prefix = contract.hf.optional_prefix.as_deref().unwrap_or("");
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The naming under which most of the checkpoint's tensors are known; `None` where no tensor is.
pub(super) fn naming_of(family: &dyn Family, checkpoint: &Checkpoint) -> Option<Naming> {
    let contract = family.contract();
    let stored: Vec<String> = checkpoint.tensors().iter().map(|t| generalize(&t.name).0).collect();
    let known = |naming: Naming| {
        let patterns: HashSet<&str> =
            contract.tensors.iter().map(|row| naming.pattern(contract, row)).collect();
        stored.iter().filter(|name| patterns.contains(name.as_str())).count()
    };
    let mut best = None;
    for &naming in Naming::of(checkpoint.kind()) {
        let count = known(naming);
        if count > best.map_or(0, |(_, most)| most) {
            best = Some((naming, count));
        }
    }
    best.map(|(naming, _)| naming)
}

/// `blk.12.attn_q.weight` as (`blk.{n}.attn_q.weight`, 12): the first component that is a number is the layer.
pub(super) fn generalize(name: &str) -> (String, Option<usize>) {
    let mut layer = None;
    let mut parts = Vec::new();
    for part in name.split('.') {
        // `007` is no layer name: it would not come back from the number.
        let number = part.parse::<usize>().ok().filter(|n| layer.is_none() && n.to_string() == part);
        parts.push(if number.is_some() { "{n}" } else { part });
        layer = layer.or(number);
    }
    (parts.join("."), layer)
}

/// The name that a GGUF of `family` gives the canonical tensor `canonical` (`0.q_proj.weight`), or to what it is
/// fused into; `None` where the family has no such tensor.
pub fn gguf_name(family: &dyn Family, canonical: &str) -> Option<String> {
    let (pattern, layer) = generalize(canonical);
    let row = family.contract().tensors.iter().find(|row| row.name == pattern)?;
    Some(at_layer(&row.gguf, layer.unwrap_or(0)))
}

/// One canonical tensor of a concrete model.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub row: &'static TensorRow,
    pub layer: usize,
    /// Canonical shape.
    pub shape: Shape,
}

impl Slot {
    pub fn name(&self) -> String {
        at_layer(&self.row.name, self.layer)
    }

    pub fn stored_name(&self, naming: Naming, contract: &FamilyContract) -> String {
        at_layer(naming.pattern(contract, self.row), self.layer)
    }
}

fn at_layer(pattern: &str, layer: usize) -> String {
    pattern.replace("{n}", &layer.to_string())
}

/// Which of a family's optional tensors a model has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presence {
    pub biases: Biases,
    pub head: bool,
}

impl Presence {
    pub fn has(self, when: When) -> bool {
        match when {
            When::Always => true,
            When::AttentionBias => self.biases.attention,
            When::MlpBias => self.biases.mlp,
            When::UntiedHead => self.head,
        }
    }
}

/// Every canonical tensor of a model: the layer-less rows of the table first, then layer by layer.
/// `None` where a shape overflows.
pub(crate) fn slots(
    contract: &'static FamilyContract,
    dims: &Dims,
    n_layers: usize,
    presence: Presence,
) -> Option<Vec<Slot>> {
    let rows = |per_layer: bool| {
        contract.tensors.iter().filter(move |r| r.per_layer() == per_layer && presence.has(r.when))
    };
    let slot = |row: &'static TensorRow, layer| {
        let shape = row.shape.iter().map(|expr| expr.eval(dims)).collect::<Option<Vec<_>>>()?;
        Some(Slot { row, layer, shape: Shape(shape) })
    };
    let globals = rows(false).map(|row| slot(row, 0));
    let layers = (0..n_layers).flat_map(|layer| rows(true).map(move |row| slot(row, layer)));
    globals.chain(layers).collect()
}

#[cfg(test)]
mod tests {
    use super::super::FAMILIES;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn model(family: &dyn Family, n_layers: usize, presence: Presence) -> Vec<Slot> {
        let dims = Dims {
            vocab_size: 11,
            hidden_size: 8,
            intermediate_size: 20,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 2,
            max_positions: 16,
        };
        slots(family.contract(), &dims, n_layers, presence).expect("small sizes do not overflow")
    }

    proptest! {
        /// Canonical names are a bijection with gguf-short, and with every dialect once fused rows are
        /// counted as the one stored tensor that they are.
        #[test]
        fn names_are_bijective(n_layers in 1usize..40, attention: bool, mlp: bool, head: bool) {
            for family in FAMILIES {
                let contract = family.contract();
                let presence = Presence { biases: Biases { attention, mlp }, head };
                let slots = model(*family, n_layers, presence);
                let canonical: BTreeSet<_> = slots.iter().map(Slot::name).collect();
                prop_assert_eq!(canonical.len(), slots.len());
                for naming in [Naming::Short, Naming::Gguf, Naming::Hf, Naming::HfBare, Naming::AprHf] {
                    let mut back = BTreeSet::new();
                    for stored in slots.iter().map(|s| s.stored_name(naming, contract)).collect::<BTreeSet<_>>() {
                        let (pattern, layer) = generalize(&stored);
                        let rows = contract.tensors.iter().filter(|r| naming.pattern(contract, r) == pattern);
                        back.extend(rows.map(|r| at_layer(&r.name, layer.unwrap_or(0))));
                    }
                    prop_assert_eq!(&back, &canonical, "{} in {:?}", family.id(), naming);
                }
            }
        }
    }

    #[test]
    fn only_gpt2_and_phi3_fuse_and_only_where_their_files_do() {
        for family in FAMILIES {
            let contract = family.contract();
            let distinct = |naming: Naming| {
                contract.tensors.iter().map(|r| naming.pattern(contract, r)).collect::<BTreeSet<_>>().len()
            };
            // q, k and v with their biases; q, k and v, and gate and up.
            let fused = match family.id() {
                "gpt2" => 4,
                "phi3" => 3,
                _ => 0,
            };
            assert_eq!(distinct(Naming::Hf) + fused, contract.tensors.len(), "{}", family.id());
            assert_eq!(distinct(Naming::Gguf) + fused, contract.tensors.len(), "{}", family.id());
            assert_eq!(distinct(Naming::AprHf), contract.tensors.len(), "{}", family.id());
        }
    }

    #[test]
    fn a_layer_is_the_first_plain_number() {
        assert_eq!(generalize("blk.12.attn_q.weight"), ("blk.{n}.attn_q.weight".to_owned(), Some(12)));
        assert_eq!(generalize("blk.012.attn_q.weight"), ("blk.012.attn_q.weight".to_owned(), None));
        assert_eq!(generalize("output.weight"), ("output.weight".to_owned(), None));
    }
}
