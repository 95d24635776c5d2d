//! The owner's document, `contracts/apr-format-v1.yaml`, field by field.

use crate::tensor::DType;
use crate::{Error, Kind, Result};
use serde::Deserialize;

/// APR Format Contract v1.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AprFormat {
    /// `1.0`; another version is refused.
    pub version: String,
    /// How tensors are called in a file.
    pub tensor_naming: TensorNaming,
    /// Which byte stands for which encoding.
    pub dtype_bytes: DTypeBytes,
    /// How far statistics may move, by encoding.
    pub tolerances: Vec<DTypeTolerance>,
    /// I-1 to I-5.
    pub invariants: Vec<Invariant>,
}

/// How tensors are called in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorNaming {
    /// `gguf-short`; another convention is refused.
    pub convention: String,
    /// In words.
    pub description: String,
    /// A right and a wrong name each; the pattern is held to them when the contract is loaded.
    pub examples: Vec<NameExample>,
    /// A regular expression that a stored name must match.
    pub pattern: String,
}

/// A right name and a wrong one for the same tensor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameExample {
    /// As it must be.
    pub canonical: String,
    /// As it must not be.
    pub forbidden: String,
}

/// Which byte stands for which encoding.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DTypeBytes {
    /// In words.
    pub description: String,
    /// One line per encoding.
    pub mappings: Vec<DTypeByte>,
}

/// One encoding's byte.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DTypeByte {
    /// GGML's name.
    pub dtype: String,
    /// GGML's type number.
    pub byte: u8,
}

/// One encoding's tolerance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DTypeTolerance {
    /// GGML's name.
    pub dtype: String,
    /// Absolute part.
    pub atol: f64,
    /// Share of the reference's magnitude.
    pub rtol: f64,
}

/// One of I-1 to I-5.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invariant {
    /// `I-1`.
    pub id: String,
    /// A title.
    pub name: String,
    /// The law in one line.
    pub description: String,
    /// Defects it would have caught.
    pub catches: Vec<String>,
    /// `F-CONTRACT-I1-001`.
    pub gate_id: String,
    /// Whether the owner's own tools had it when the contract was written.
    #[serde(default)]
    pub implemented: bool,
    /// The command line that the owner checks it with.
    pub test: Option<String>,
}

impl Invariant {
    /// The law as a failure report quotes it: id, name, description, what it catches, and its own test command.
    pub fn headline(&self) -> String {
        let mut text =
            format!("{} {}: {} (catches {})", self.id, self.name, self.description, self.catches.join(", "));
        if let Some(test) = &self.test {
            let ours = test.strip_prefix("apr ").unwrap_or(test);
            text.push_str(&format!("\nthe contract's own test: apr-qa-runner {ours}"));
        } else if self.implemented {
            text.push_str("\nthe contract gives no command for it: the gate is its implementation");
        }
        text
    }
}

impl AprFormat {
    /// Parses and checks the document; `file` is named in errors.
    pub(super) fn parse(file: &str, text: &str) -> Result<AprFormat> {
        let parsed: AprFormat =
            serde_yaml::from_str(text).map_err(|e| Error::new(Kind::Usage, file, e.to_string()))?;
        let usage = |what: String| Err(Error::new(Kind::Usage, file, what));
        if parsed.version != "1.0" {
            return usage(format!("version `{}` of the contract; this program enforces 1.0", parsed.version));
        }
        if parsed.tensor_naming.convention != "gguf-short" {
            let TensorNaming { convention, description, .. } = &parsed.tensor_naming;
            return usage(format!(
                "naming convention `{convention}` ({description}); this program enforces gguf-short"
            ));
        }
        for (i, mapping) in parsed.dtype_bytes.mappings.iter().enumerate() {
            known_dtype(file, &mapping.dtype)?;
            if let Some(twin) = parsed.dtype_bytes.mappings[..i].iter().find(|m| m.byte == mapping.byte) {
                let law = &parsed.dtype_bytes.description;
                return usage(format!(
                    "byte {} stands for {} and {} ({law})",
                    mapping.byte, twin.dtype, mapping.dtype
                ));
            }
        }
        for tolerance in &parsed.tolerances {
            known_dtype(file, &tolerance.dtype)?;
            not_negative(file, &tolerance.dtype, &[tolerance.atol, tolerance.rtol])?;
        }
        Ok(parsed)
    }
}

/// Refuses a dtype that this program does not know: a misspelt one would never be enforced.
pub(super) fn known_dtype(file: &str, name: &str) -> Result<DType> {
    match DType::from_name(name) {
        Some(dtype) if dtype.name() == name => Ok(dtype),
        Some(_) | None => Err(Error::new(Kind::Usage, file, format!("unknown dtype `{name}`"))),
    }
}

/// Refuses a bound that nothing or everything could satisfy.
pub(super) fn not_negative(file: &str, what: &str, values: &[f64]) -> Result<()> {
    match values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
        None => Ok(()),
        Some(v) => Err(Error::new(Kind::Usage, file, format!("{what}: {v} is no bound"))),
    }
}
