//! Backends: the fused operations that the one decoder is written in.
//!
//! The decoder (`infer`) is generic over [`Backend`]; a backend owns its buffers and its weights' layout.
//! All values are f32 in `exact` numerics. Reduction orders are written down in `contracts/kernels/`.

use crate::Result;
use crate::models::{Ffn, Model, NormKind};

/// One way to compute. Buffers are activations `[n_tokens, width]`, row-major.
pub trait Backend: Send + Sync {
    /// `reference`, `cpu`.
    fn name(&self) -> &'static str;
}
