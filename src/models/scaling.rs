//! Rotary frequencies beyond `theta`: how a context longer than the trained one is reached.
//! Linear and llama-3 scaling are computed; every other kind is refused by name.

use super::fields::{JsonFields, short_decimal};
use crate::{Error, Result};
use serde_json::{Value as Json, json};

/// What divides the rotary frequencies.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RopeScaling {
    /// Nothing.
    #[default]
    None,
    /// Every frequency is divided by the factor (position interpolation, arXiv 2306.15595).
    Linear {
        /// At least 1.
        factor: f32,
    },
    /// Llama 3: long wavelengths are divided by the factor, short ones stay, between them a ramp.
    Llama3(Llama3),
    /// One divisor per frequency, as a GGUF stores them in `rope_freqs.weight`; `[dim / 2]`.
    Factors(Vec<f32>),
}

/// The parameters of llama-3 scaling (transformers, `_compute_llama3_parameters`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    /// Divisor of the long wavelengths.
    pub factor: f32,
    /// A wavelength of `original / low_freq` or more is long.
    pub low_freq: f32,
    /// A wavelength of `original / high_freq` or less is short.
    pub high_freq: f32,
    /// The context that the model was first trained for.
    pub original: usize,
}

/// What the released Llama 3.1, 3.2 and 3.3 models use: the only way back from a GGUF's divisors.
const RELEASED: [Llama3; 2] = [
    Llama3 { factor: 8.0, low_freq: 1.0, high_freq: 4.0, original: 8192 },
    Llama3 { factor: 32.0, low_freq: 1.0, high_freq: 4.0, original: 8192 },
];

impl RopeScaling {
    /// The divisor of every frequency, `[dim / 2]`; `None` where nothing is scaled.
    pub fn factors(&self, theta: f32, dim: usize) -> Option<Vec<f32>> {
        match self {
            RopeScaling::None => None,
            RopeScaling::Linear { factor } => Some(vec![*factor; dim / 2]),
            RopeScaling::Llama3(llama3) => Some(llama3.factors(theta, dim)),
            RopeScaling::Factors(factors) => Some(factors.clone()),
        }
    }

    /// The scaling that a GGUF's `rope_freqs.weight` stands for: the llama-3 parameters that the file says, or
    /// those of a released model, where they give the same divisors; else the divisors.
    pub fn of_factors(factors: Vec<f32>, theta: f32, dim: usize, said: Option<Llama3>) -> RopeScaling {
        let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-5 * b.abs();
        for known in said.into_iter().chain(RELEASED) {
            let expected = known.factors(theta, dim);
            if expected.len() == factors.len() && factors.iter().zip(&expected).all(|(a, b)| close(a, b)) {
                return RopeScaling::Llama3(known);
            }
        }
        RopeScaling::Factors(factors)
    }

    /// Reads the object that `config.json` calls `rope_scaling` or `rope_parameters`.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] naming a kind that is not computed; [`crate::Kind::Malformed`] for a
    /// parameter that is absent or no number.
    pub(super) fn read(rope: &JsonFields) -> Result<RopeScaling> {
        let kind = rope.find(&["rope_type", "type"])?.and_then(Json::as_str).unwrap_or("default");
        rope.only("partial_rotary_factor", &[json!(1), json!(1.0)], "only whole heads are rotated")?;
        let number = |name: &str| rope.number(&[name], None).map(|x| x as f32);
        let scaling = match kind {
            "default" => {
                rope.only("factor", &[json!(1), json!(1.0)], "the type `default` scales nothing")?;
                RopeScaling::None
            }
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "llama3" => RopeScaling::Llama3(Llama3 {
                factor: number("factor")?,
                low_freq: number("low_freq_factor")?,
                high_freq: number("high_freq_factor")?,
                original: rope.size(&["original_max_position_embeddings"], None)?,
            }),
            "factors" => RopeScaling::Factors(read_factors(rope)?),
            other => return Err(refused(rope, other)),
        };
        scaling.check().map_err(|what| rope.wrong("factor", what))?;
        Ok(scaling)
    }

    /// The object as `config.json` and APR metadata hold it, without `rope_theta`.
    pub(super) fn write(&self) -> Json {
        match self {
            RopeScaling::None => json!({ "rope_type": "default" }),
            RopeScaling::Linear { factor } => {
                json!({ "rope_type": "linear", "factor": short_decimal(*factor) })
            }
            RopeScaling::Llama3(l) => json!({
                "rope_type": "llama3",
                "factor": short_decimal(l.factor),
                "low_freq_factor": short_decimal(l.low_freq),
                "high_freq_factor": short_decimal(l.high_freq),
                "original_max_position_embeddings": l.original,
            }),
            RopeScaling::Factors(factors) => json!({
                "rope_type": "factors",
                "factors": factors.iter().map(|f| short_decimal(*f)).collect::<Vec<_>>(),
            }),
        }
    }

    /// In words, for reports.
    pub fn describe(&self) -> String {
        match self {
            RopeScaling::None => "none".to_owned(),
            RopeScaling::Linear { factor } => format!("linear {factor}"),
            RopeScaling::Llama3(l) => {
                format!("llama3 {} {} {} {}", l.factor, l.low_freq, l.high_freq, l.original)
            }
            RopeScaling::Factors(factors) => format!("factors {factors:?}"),
        }
    }

    /// What cannot be computed with.
    pub(super) fn check(&self) -> Result<(), String> {
        let positive = |x: f32| x > 0.0 && x.is_finite();
        match self {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } if positive(*factor) => Ok(()),
            RopeScaling::Linear { factor } => Err(format!("factor {factor} is not positive and finite")),
            RopeScaling::Llama3(l) => {
                let sound = positive(l.factor) && positive(l.low_freq) && l.high_freq > l.low_freq;
                sound.then_some(()).ok_or_else(|| format!("{l:?} cannot be computed with"))
            }
            RopeScaling::Factors(factors) => match factors.iter().find(|f| !positive(**f)) {
                None => Ok(()),
                Some(bad) => Err(format!("frequency divisor {bad} is not positive and finite")),
            },
        }
    }
}

impl Llama3 {
    /// Divisors of the frequencies, as llama.cpp's converter writes them to `rope_freqs.weight`. The ramp is
    /// linear in the frequency: `(original / wavelength - low) / (high - low)`.
    fn factors(&self, theta: f32, dim: usize) -> Vec<f32> {
        let original = self.original as f64;
        let (low, high) = (f64::from(self.low_freq), f64::from(self.high_freq));
        let factor = f64::from(self.factor);
        let of = |i: usize| {
            let frequency = 1.0 / f64::from(theta).powf(2.0 * i as f64 / dim as f64);
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < original / high {
                1.0
            } else if wavelength > original / low {
                factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        (0..dim / 2).map(|i| of(i) as f32).collect()
    }
}

fn read_factors(rope: &JsonFields) -> Result<Vec<f32>> {
    let list = rope.find(&["factors"])?.and_then(Json::as_array);
    let numbers = list.and_then(|l| l.iter().map(|x| x.as_f64().map(|x| x as f32)).collect());
    numbers.ok_or_else(|| rope.wrong("factors", "must be a list of numbers".to_owned()))
}

fn refused(rope: &JsonFields, kind: &str) -> Error {
    let what = format!("RoPE scaling `{kind}` is not computed");
    rope.refusal("rope_type", what).hint("computed are default, linear and llama3")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Llama 3.2 1B: theta 500000, head width 64, factor 32.
    #[test]
    fn llama_3_divisors_keep_the_short_and_divide_the_long_wavelengths() {
        let factors = RELEASED[1].factors(500_000.0, 64);
        assert_eq!(factors.len(), 32);
        assert!(factors[..15].iter().all(|f| *f == 1.0), "{factors:?}");
        assert!(factors[18..].iter().all(|f| *f == 32.0), "{factors:?}");
        assert!(factors.windows(2).all(|w| w[0] <= w[1]), "{factors:?}");
        assert!(factors[15..18].iter().any(|f| *f > 1.0 && *f < 32.0), "the ramp is met: {factors:?}");
    }

    #[test]
    fn divisors_of_a_released_model_are_known_again_and_others_stay_divisors() {
        let factors = RELEASED[0].factors(500_000.0, 128);
        assert_eq!(
            RopeScaling::of_factors(factors.clone(), 500_000.0, 128, None),
            RopeScaling::Llama3(RELEASED[0])
        );
        let mut other = factors;
        other[40] *= 1.5;
        let found = RopeScaling::of_factors(other.clone(), 500_000.0, 128, Some(RELEASED[1]));
        assert_eq!(found, RopeScaling::Factors(other), "what a file says is believed only where it is so");
        let small = Llama3 { factor: 8.0, low_freq: 1.0, high_freq: 4.0, original: 128 };
        let factors = small.factors(500_000.0, 32);
        assert_eq!(RopeScaling::of_factors(factors, 500_000.0, 32, Some(small)), RopeScaling::Llama3(small));
    }

    #[test]
    fn what_is_written_is_read_again_and_other_kinds_are_refused_by_name() {
        let read = |value: Json| {
            let map = value.as_object().expect("an object").clone();
            RopeScaling::read(&JsonFields::new("config.json".as_ref(), &map, None))
        };
        let all = [
            RopeScaling::None,
            RopeScaling::Linear { factor: 8.0 },
            RopeScaling::Llama3(RELEASED[0]),
            RopeScaling::Factors(vec![1.0, 1.1, 8.0]),
        ];
        for scaling in all {
            assert_eq!(read(scaling.write()), Ok(scaling));
        }
        for kind in ["yarn", "longrope", "dynamic", "mrope"] {
            let error = read(json!({ "rope_type": kind, "factor": 4.0 })).expect_err("refused").to_string();
            assert!(error.contains(kind) && error.contains("rope_type"), "{error}");
        }
        assert!(read(json!({ "rope_type": "linear", "factor": -1.0 })).is_err());
        assert!(read(json!({ "rope_type": "linear" })).is_err());
    }
}
