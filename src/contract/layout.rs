//! The law of tensor layouts, `contracts/tensor-layout.yaml`: the order of dimensions in each format, names and
//! shapes in GGUF and APR, and what no trained weight looks like.

use super::families::{DimExpr, Role};
use crate::{Error, Kind, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Where the built-in law stands in the repository.
pub const LAYOUT_FILE: &str = "contracts/tensor-layout.yaml";

const TEXT: &str = include_str!("../../contracts/tensor-layout.yaml");

/// The law.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Of the text.
    pub version: String,
    /// The containers.
    pub formats: Vec<FormatLayout>,
    /// Whether a conversion between formats changes a payload; only `false` is lawful.
    pub bytes_change: bool,
    /// Tensors that every family of decoders has.
    pub tensors: Vec<TensorLayout>,
    /// What the values of a role keep to; one row per role.
    pub limits: Vec<Limits>,
}

/// How a format lays tensors out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatLayout {
    /// As `FormatKind` names it.
    pub name: String,
    /// The order in which it writes the sizes of a tensor.
    pub dimensions: Dimensions,
    /// Tensor data begin on a multiple of so many bytes.
    pub alignment: u64,
}

/// An order of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimensions {
    /// Row-major: `[out, in]`.
    OutermostFirst,
    /// GGML's `ne`: `[in, out]`.
    InnermostFirst,
}

impl Dimensions {
    /// A row-major shape in this order, and back: the step is its own inverse.
    pub fn ordered<T: Clone>(self, shape: &[T]) -> Vec<T> {
        match self {
            Dimensions::OutermostFirst => shape.to_vec(),
            Dimensions::InnermostFirst => shape.iter().rev().cloned().collect(),
        }
    }
}

/// One tensor in both containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorLayout {
    /// Canonical name, which is the one in APR; `{n}` for the layer.
    pub name: String,
    /// Name in GGUF.
    pub gguf: String,
    /// Sizes as APR writes them.
    pub apr_shape: Vec<DimExpr>,
    /// Sizes as GGUF writes them.
    pub gguf_shape: Vec<DimExpr>,
    /// Whether its problems are told first.
    pub critical: bool,
}

/// What the values of a role keep to, besides being finite.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Whose.
    pub role: Role,
    /// The share of exact zeros lies below.
    #[serde(default)]
    pub zeros_below: Option<f64>,
    /// The Euclidean norm lies above.
    #[serde(default)]
    pub l2_above: Option<f64>,
}

impl Layout {
    /// The law that is built into the program.
    pub fn builtin() -> &'static Layout {
        static BUILTIN: OnceLock<Layout> = OnceLock::new();
        // The text is compiled in, and `the_built_in_law_loads` parses it.
        BUILTIN.get_or_init(|| Layout::parse(LAYOUT_FILE, TEXT).expect("the built-in law is valid"))
    }

    /// Parses and checks such a text; `file` names it in errors.
    ///
    /// # Errors
    /// [`Kind::Usage`] where it is no such law or contradicts itself.
    pub fn parse(file: &str, yaml: &str) -> Result<Layout> {
        let layout: Layout =
            serde_yaml::from_str(yaml).map_err(|e| Error::new(Kind::Usage, file, e.to_string()))?;
        layout.check().map_err(|what| Error::new(Kind::Usage, file, what))?;
        Ok(layout)
    }

    /// The layout of the format of that name.
    ///
    /// # Panics
    /// Never for a name of `FormatKind`: a test holds the two lists against each other.
    pub fn format(&self, name: &str) -> &FormatLayout {
        self.formats.iter().find(|f| f.name == name).expect("every format has its row")
    }

    /// The row of that canonical pattern, `{n}` for the layer.
    pub fn tensor(&self, pattern: &str) -> Option<&TensorLayout> {
        self.tensors.iter().find(|t| t.name == pattern)
    }

    /// Whether problems of the tensor of that canonical pattern are told first.
    pub fn is_critical(&self, pattern: &str) -> bool {
        self.tensor(pattern).is_some_and(|t| t.critical)
    }

    /// What the values of `role` keep to.
    pub fn limits(&self, role: Role) -> &Limits {
        // `check` refuses a law that leaves a role out.
        self.limits.iter().find(|l| l.role == role).expect("every role has its limits")
    }

    fn check(&self) -> Result<(), String> {
        if self.bytes_change {
            return Err("bytes_change: a conversion never changes a payload".to_owned());
        }
        if self.version.trim().is_empty() || self.formats.is_empty() {
            return Err("it needs a version and at least one format".to_owned());
        }
        let dimensions = |name: &str| {
            let found = self.formats.iter().find(|f| f.name == name);
            found.map(|f| f.dimensions).ok_or_else(|| format!("format `{name}` has no row"))
        };
        let (apr, gguf) = (dimensions("apr")?, dimensions("gguf")?);
        let mut names = BTreeSet::new();
        for t in &self.tensors {
            if !names.insert(&t.name) || !names.insert(&t.gguf) && t.name != t.gguf {
                return Err(format!("tensor `{}` is listed twice", t.name));
            }
            // Both lists are the same row-major shape, each in its format's order.
            if apr.ordered(&t.apr_shape) != gguf.ordered(&t.gguf_shape) {
                return Err(format!("tensor `{}`: gguf_shape is not apr_shape in GGUF's order", t.name));
            }
        }
        for role in Role::ALL {
            if self.limits.iter().filter(|l| l.role == *role).count() != 1 {
                return Err(format!("limits: role {role:?} needs exactly one row"));
            }
        }
        for l in &self.limits {
            let share = l.zeros_below.is_none_or(|z| z > 0.0 && z <= 1.0);
            if !share || l.l2_above.is_some_and(|n| n.is_nan() || n < 0.0) {
                return Err(format!("limits: role {:?} bounds nothing", l.role));
            }
        }
        if self.formats.iter().any(|f| !f.alignment.is_power_of_two()) {
            return Err("an alignment is a power of two".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(from: &str, to: &str) -> String {
        assert!(TEXT.contains(from), "the text has no {from:?}");
        Layout::parse("x.yaml", &TEXT.replacen(from, to, 1)).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_built_in_law_loads() {
        let law = Layout::builtin();
        assert_eq!(law.format("gguf").dimensions, Dimensions::InnermostFirst);
        assert!(law.tensor("output.weight").is_some_and(|t| t.critical));
        assert_eq!(law.limits(Role::Embedding).zeros_below, Some(0.5));
        assert_eq!(law.limits(Role::Linear).zeros_below, Some(0.8));
    }

    #[test]
    fn a_law_that_contradicts_itself_is_refused() {
        assert!(refusal("bytes_change: false", "bytes_change: true").contains("never changes"));
        assert!(
            refusal("gguf_shape: [hidden_size, vocab_size]", "gguf_shape: [vocab_size, hidden_size]")
                .contains("GGUF's order")
        );
        assert!(refusal("  - { role: bias }\n", "").contains("Bias"));
        assert!(refusal("zeros_below: 0.5", "zeros_below: 1.5").contains("bounds nothing"));
        assert!(refusal("alignment: 8", "alignment: 9").contains("power of two"));
        assert!(refusal("critical: true", "important: true").contains("important"));
    }
}
