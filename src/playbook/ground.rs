//! What a playbook alone says of an artifact, which decides whether a defect can be in it.

use super::schema::{Dialect, Format};
use crate::quant::Quantize;

/// An artifact as far as the playbook describes it; no file is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ground<'a> {
    /// Its container.
    pub format: Format,
    /// The family that the model is claimed to be of.
    pub family: Option<&'a str>,
    /// The encoding that its weights were given on the way from the source, if any.
    pub quantize: Option<Quantize>,
    /// Whose APR file it is.
    pub dialect: Option<Dialect>,
}

impl Ground<'_> {
    /// Whether the model is claimed to be of one of these families.
    pub fn is_of(&self, families: &[&str]) -> bool {
        self.family.is_some_and(|family| families.contains(&family))
    }

    /// Whether its matrices are stored in blocks.
    pub fn in_blocks(&self) -> bool {
        self.quantize.is_some_and(|q| !matches!(q, Quantize::F32 | Quantize::F16 | Quantize::Bf16))
    }
}
