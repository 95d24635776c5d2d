//! Our document beside the owner's, `contracts/apr-format-v1.ext.yaml`: what v1 leaves out, each with its reason.

use super::format::{AprFormat, known_dtype, not_negative};
use crate::{Error, Kind, Result};
use serde::Deserialize;

/// What APR Format Contract v1 leaves out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// `1.0`; another version is refused.
    pub version: String,
    /// The document it stands beside.
    pub extends: String,
    /// Further name patterns.
    pub tensor_naming: Vec<NamesToo>,
    /// Further bytes.
    pub dtype_bytes: Vec<ByteToo>,
    /// Bytes of row tiles.
    pub tiled_bytes: Vec<ByteToo>,
    /// Further tolerances.
    pub tolerances: Vec<ToleranceToo>,
    /// I-1: how many standard deviations of noise make a top-two gap clear.
    pub clear_gap_sigmas: f64,
    /// What each encoding does to a tensor at worst and to a model in practice.
    pub encodings: Vec<EncodingLaw>,
}

/// Names that are right beside the owner's pattern.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesToo {
    /// A regular expression.
    pub pattern: String,
    /// Names it must match; held to when the contract is loaded.
    pub examples: Vec<String>,
    /// Why.
    pub reason: String,
}

/// A byte for an encoding that the owner's table leaves out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteToo {
    /// GGML's name.
    pub dtype: String,
    /// GGML's type number; of row tiles, 160 more.
    pub byte: u8,
    /// Why.
    pub reason: String,
}

/// A tolerance for an encoding that the owner's table leaves out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToleranceToo {
    /// The encoding's name.
    pub dtype: String,
    /// Absolute part.
    pub atol: f64,
    /// Share of the reference's magnitude.
    pub rtol: f64,
    /// Why.
    pub reason: String,
}

/// What an encoding does to a tensor at worst and to a model in practice.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingLaw {
    /// The encoding's name.
    pub dtype: String,
    /// The largest `|x' - x|` as a share of `max|x|` over [`EncodingLaw::scope`].
    pub worst_case: f64,
    /// How many times an f16 scale's absolute rounding error (2^-25) enters a value.
    pub f16_steps: u32,
    /// What `max|x|` is taken over.
    pub scope: Scope,
    /// Whether `worst_case` holds for every element of any tensor.
    pub proven: bool,
    /// What 10 log10(signal / noise) must reach; absent where the numbers must be equal.
    #[serde(default)]
    pub sqnr_floor_db: Option<f64>,
    /// Nats; the mean KL divergence that an artifact of this encoding may have from its original.
    pub mean_kl: f64,
    /// Why these values.
    pub reason: String,
}

/// What a worst case is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The largest magnitude in the element's row: blocks lie inside rows.
    Row,
    /// The largest magnitude in the tensor: flat blocks, or one scale for all.
    Tensor,
}

impl EncodingLaw {
    /// How far an element may be from its original at worst, where `largest` is the largest magnitude in scope.
    pub fn worst_error(&self, largest: f64) -> f64 {
        const HALF_OF_THE_SMALLEST_F16: f64 = 1.0 / (1u64 << 25) as f64;
        self.worst_case * largest + f64::from(self.f16_steps) * HALF_OF_THE_SMALLEST_F16
    }
}

/// What the byte of row tiles is above that of plain blocks.
const TILES: u8 = 0xa0;

impl Extension {
    /// The top-two gap in nats that noise does not flip, for an artifact at its KL limit `mean_kl`:
    /// to second order KL is half the variance of the logit noise, and two logits differ by sqrt(2) times that.
    pub fn clear_gap(&self, mean_kl: f64) -> f64 {
        self.clear_gap_sigmas * std::f64::consts::SQRT_2 * (2.0 * mean_kl).sqrt()
    }

    /// Parses and checks the document; `file` is named in errors.
    pub(super) fn parse(file: &str, text: &str) -> Result<Extension> {
        let parsed: Extension =
            serde_yaml::from_str(text).map_err(|e| Error::new(Kind::Usage, file, e.to_string()))?;
        let usage = |what: String| Err(Error::new(Kind::Usage, file, what));
        if parsed.version != "1.0" || parsed.extends != "apr-format-v1.yaml" {
            return usage(format!("version `{}` of an extension of `{}`", parsed.version, parsed.extends));
        }
        for tolerance in &parsed.tolerances {
            known_dtype(file, &tolerance.dtype)?;
            not_negative(file, &tolerance.dtype, &[tolerance.atol, tolerance.rtol])?;
        }
        for law in &parsed.encodings {
            known_dtype(file, &law.dtype)?;
            not_negative(file, &law.dtype, &[law.worst_case, law.mean_kl, law.sqnr_floor_db.unwrap_or(0.0)])?;
        }
        not_negative(file, "clear_gap_sigmas", &[parsed.clear_gap_sigmas])?;
        let reasons = (parsed.tensor_naming.iter().map(|n| (&n.pattern, &n.reason)))
            .chain(parsed.dtype_bytes.iter().chain(&parsed.tiled_bytes).map(|b| (&b.dtype, &b.reason)))
            .chain(parsed.tolerances.iter().map(|t| (&t.dtype, &t.reason)))
            .chain(parsed.encodings.iter().map(|e| (&e.dtype, &e.reason)));
        for (what, reason) in reasons {
            if reason.trim().is_empty() {
                return usage(format!("`{what}` is given without a reason"));
            }
        }
        Ok(parsed)
    }

    /// Refuses an extension that says again, or otherwise, what the owner's document says.
    pub(super) fn leaves_untouched(&self, file: &str, owner: &AprFormat) -> Result<()> {
        let usage = |what: String| Err(Error::new(Kind::Usage, file, what));
        for ours in &self.dtype_bytes {
            known_dtype(file, &ours.dtype)?;
            let clash = |m: &&super::format::DTypeByte| m.dtype == ours.dtype || m.byte == ours.byte;
            if let Some(theirs) = owner.dtype_bytes.mappings.iter().find(clash) {
                return usage(format!(
                    "{} = {}: the contract already says {} = {}",
                    ours.dtype, ours.byte, theirs.dtype, theirs.byte
                ));
            }
        }
        for tiles in &self.tiled_bytes {
            known_dtype(file, &tiles.dtype)?;
            let plain = owner.dtype_bytes.mappings.iter().map(|m| (&m.dtype, m.byte));
            let plain = plain.chain(self.dtype_bytes.iter().map(|m| (&m.dtype, m.byte)));
            let of_plain = plain.clone().find(|(dtype, _)| **dtype == tiles.dtype).map(|(_, byte)| byte);
            if of_plain.and_then(|byte| byte.checked_add(TILES)) != Some(tiles.byte) {
                let what = format!(
                    "tiles of {} = {}: not {TILES} plus the byte of its blocks",
                    tiles.dtype, tiles.byte
                );
                return usage(what);
            }
        }
        match self.tolerances.iter().find(|t| owner.tolerances.iter().any(|o| o.dtype == t.dtype)) {
            None => Ok(()),
            Some(t) => usage(format!("the contract already gives {} a tolerance", t.dtype)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant;
    use crate::stats::Noise;
    use crate::tensor::{Bytes, DType, Shape, Tensor};

    const TEXT: &str = include_str!("../../contracts/apr-format-v1.ext.yaml");

    #[test]
    fn a_value_without_a_reason_is_refused() {
        let bare = TEXT.replace("reason: \"Five bits, as the contract's Q5_K.\"", "reason: \" \"");
        assert_ne!(bare, TEXT);
        let err = Extension::parse("ext.yaml", &bare).unwrap_err();
        assert!(err.to_string().contains("Q5_0"), "{err}");
    }

    #[test]
    fn a_clear_gap_grows_with_the_kl_limit() {
        let extension = Extension::parse("ext.yaml", TEXT).unwrap();
        let gap = extension.clear_gap(0.003);
        assert!((gap - 12.0 * 0.003f64.sqrt()).abs() < 1e-12, "{gap}");
        assert!(extension.clear_gap(0.15) > gap);
    }

    #[test]
    fn floors_follow_from_the_step_sizes_they_name() {
        let extension = Extension::parse("ext.yaml", TEXT).unwrap();
        let db = |ratio: f64| 10.0 * ratio.log10();
        let proofs = [
            ("Q8_0", db(254.0f64.powi(2) / 31.0)),
            ("Q5_0", db(32.0f64.powi(2) / 31.0)),
            ("Q4_0", db(16.0f64.powi(2) / 31.0)),
            ("Q5_1", db(62.0f64.powi(2) / 60.0)),
            ("Q4_1", db(30.0f64.powi(2) / 60.0)),
            ("BF16", db(2.0f64.powi(16))),
            ("APR_Q4", db(14.0f64.powi(2) / 31.0)),
        ];
        for (name, proven) in proofs {
            let law = extension.encodings.iter().find(|e| e.dtype == name).expect(name);
            let floor = law.sqnr_floor_db.expect(name);
            assert!(floor <= proven && proven - floor < 0.25, "{name}: floor {floor}, proven {proven}");
        }
    }

    /// Rows whose blocks are normal, heavy-tailed, tiny and constant.
    fn rows() -> Vec<f32> {
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32 + 0.5) / (1u32 << 24) as f32
        };
        let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos();
        let plain: Vec<f32> = (0..4096).map(|_| normal() * 0.02).collect();
        let heavy = plain.iter().map(|v| v * v * v * 1e3);
        let constant = std::iter::repeat_n(0.0371, 256).chain(std::iter::repeat_n(-1.003, 256));
        plain.iter().copied().chain(heavy).chain(constant).collect()
    }

    #[test]
    fn what_our_encoders_do_stays_within_the_law() {
        let extension = Extension::parse("ext.yaml", TEXT).unwrap();
        let values = rows();
        let shape = Shape::from([values.len() / 256, 256]);
        for dtype in
            [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::AprQ8, DType::AprQ4]
        {
            let law = extension
                .encodings
                .iter()
                .find(|e| e.dtype == dtype.name())
                .expect("a law for what we write");
            let bytes = Bytes::from_vec(quant::from_f32(dtype, &shape, &values).unwrap());
            let decoded = quant::to_f32(&Tensor { dtype, shape: shape.clone(), bytes }).unwrap();
            assert!(law.proven, "{dtype}");
            let scope = if law.scope == Scope::Row { 256 } else { values.len() };
            for (x, y) in values.chunks(scope).zip(decoded.chunks(scope)) {
                let largest = f64::from(x.iter().fold(0.0f32, |m, v| m.max(v.abs())));
                let worst = x.iter().zip(y).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
                assert!(worst <= law.worst_error(largest), "{dtype}: {worst} of {largest}");
            }
            let sqnr = Noise::between(&values, &decoded).expect("equal lengths").sqnr_db();
            assert!(sqnr >= law.sqnr_floor_db.unwrap_or(f64::INFINITY), "{dtype}: {sqnr} dB");
        }
    }
}
