//! The law of fast arithmetic, `contracts/numerics.yaml`: how far from exact arithmetic it may take a model whose weights
//! have some encoding.

use super::format::{known_dtype, not_negative};
use crate::tensor::DType;
use crate::{Error, Kind, Result};
use serde::Deserialize;
use std::sync::OnceLock;

/// Where the document stands in the repository.
pub const FILE: &str = "contracts/numerics.yaml";

const TEXT: &str = include_str!("../../contracts/numerics.yaml");

/// What fast arithmetic may cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numerics {
    /// `1.0`; another version is refused.
    pub version: String,
    /// How many standard deviations of the noise at the limit make a top-two gap clear.
    pub clear_gap_sigmas: f64,
    /// The limit of every encoding.
    pub encodings: Vec<NumericsLaw>,
}

/// What fast arithmetic on weights of one encoding may cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericsLaw {
    /// The encoding's name.
    pub dtype: String,
    /// Nats; the mean KL divergence that fast arithmetic may have from exact arithmetic on the same weights.
    pub mean_kl: f64,
    /// Why this value.
    pub reason: String,
}

impl Numerics {
    /// The document that is built into the program.
    pub fn builtin() -> &'static Numerics {
        static BUILTIN: OnceLock<Numerics> = OnceLock::new();
        // The text is compiled in, and `every_encoding_that_is_written_has_a_limit` parses it.
        BUILTIN.get_or_init(|| Numerics::parse(FILE, TEXT).expect("the built-in document is valid"))
    }

    /// The limit for weights of `dtype`, where there is one.
    pub fn law(&self, dtype: DType) -> Option<&NumericsLaw> {
        self.encodings.iter().find(|law| law.dtype == dtype.name())
    }

    /// The top-two gap in nats that noise at the limit `mean_kl` does not close: to second order KL is half the variance
    /// of the logit noise, and two logits differ by sqrt(2) times that.
    pub fn clear_gap(&self, mean_kl: f64) -> f64 {
        self.clear_gap_sigmas * std::f64::consts::SQRT_2 * (2.0 * mean_kl).sqrt()
    }

    fn parse(file: &str, text: &str) -> Result<Numerics> {
        let usage = |what: String| Error::new(Kind::Usage, file, what);
        let parsed: Numerics = serde_yaml::from_str(text).map_err(|e| usage(e.to_string()))?;
        if parsed.version != "1.0" {
            return Err(usage(format!("version `{}` is unknown", parsed.version)));
        }
        not_negative(file, "clear_gap_sigmas", &[parsed.clear_gap_sigmas])?;
        for (at, law) in parsed.encodings.iter().enumerate() {
            known_dtype(file, &law.dtype)?;
            not_negative(file, &law.dtype, &[law.mean_kl])?;
            if law.reason.trim().is_empty() {
                return Err(usage(format!("`{}` is given without a reason", law.dtype)));
            }
            if parsed.encodings[..at].iter().any(|before| before.dtype == law.dtype) {
                return Err(usage(format!("`{}` is given twice", law.dtype)));
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    #[test]
    fn every_encoding_that_is_written_has_a_limit() {
        let limit = |dtype: DType| Numerics::builtin().law(dtype).map(|law| law.mean_kl);
        for &dtype in DType::ALL {
            if crate::quant::from_f32(dtype, &Shape::from([1, 256]), &[0.5; 256]).is_ok()
                && dtype != DType::F64
            {
                assert!(limit(dtype).is_some_and(|limit| limit > 0.0), "{dtype}");
            }
        }
        assert!(limit(DType::F16) < limit(DType::Q8_0), "plain weights need no activations of eight bits");
    }

    #[test]
    fn a_limit_has_one_value_and_a_reason() {
        let (before, after) = TEXT.split_once("reason: \"").expect("there are reasons");
        let (_, rest) = after.split_once('"').expect("a reason ends");
        let bare = format!("{before}reason: \" \"{rest}");
        assert!(Numerics::parse("n.yaml", &bare).unwrap_err().to_string().contains("without a reason"));
        let twice = TEXT.replacen("dtype: F16", "dtype: F32", 1);
        assert!(Numerics::parse("n.yaml", &twice).unwrap_err().to_string().contains("twice"));
        let wrong = TEXT.replacen("dtype: F16", "dtype: F17", 1);
        assert!(Numerics::parse("n.yaml", &wrong).is_err());
    }

    #[test]
    fn the_clear_gap_is_that_of_the_noise_at_the_limit() {
        let numerics = Numerics::builtin();
        // Half the variance of the noise is 0.02 nats, so a logit moves by 0.2 and a difference of two by 0.2 sqrt(2).
        let one_sigma = numerics.clear_gap(0.02) / numerics.clear_gap_sigmas;
        assert!((one_sigma - 0.2 * std::f64::consts::SQRT_2).abs() < 1e-12, "{one_sigma}");
    }
}
