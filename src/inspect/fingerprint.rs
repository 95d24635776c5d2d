//! Fingerprints: equal exactly where the numbers are equal, whatever the container, the names and the row order.
//!
//! A tensor has two: over its decoded values, which an exact change of encoding keeps, and over its encoded blocks,
//! which only an untouched payload keeps. Both are SHA-256 over shape and content in canonical order.

use super::view::{View, Viewed};
use crate::Result;
use crate::stats::Statistics;
use crate::tensor::Shape;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The fingerprints of every tensor whose name `wanted` accepts, and of all of them together.
///
/// # Errors
/// Where a tensor cannot be decoded.
pub fn fingerprint(view: &View, wanted: &dyn Fn(&str) -> bool) -> Result<Fingerprints> {
    let mut tensors: Vec<Fingerprint> =
        view.tensors.iter().filter(|t| wanted(t.name())).map(of_tensor).collect::<Result<_>>()?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut whole = Sha256::new();
    for t in &tensors {
        whole.update((t.name.len() as u64).to_le_bytes());
        whole.update(&t.name);
        whole.update(&t.checksum);
    }
    Ok(Fingerprints { model: hex(&whole.finalize()), tensors })
}

/// What [`fingerprint`] gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fingerprints {
    /// Over the names and values of all tensors, sorted by name.
    #[serde(rename = "model_checksum")]
    pub model: String,
    /// Sorted by name.
    #[serde(rename = "fingerprints")]
    pub tensors: Vec<Fingerprint>,
}

/// One tensor's numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fingerprint {
    /// Canonical name, or the stored one of an unknown family.
    pub name: String,
    /// Canonical shape.
    pub shape: Vec<usize>,
    /// Encoding in the file.
    pub dtype: &'static str,
    /// Of the finite values; none where there are none.
    pub mean: Option<f64>,
    /// Population standard deviation of the finite values.
    pub std: Option<f64>,
    /// Smallest finite value.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// The values that 5, 25, 50, 75 and 95 % of the finite values do not exceed (nearest rank).
    #[serde(flatten)]
    pub percentiles: Option<Percentiles>,
    /// Values that are no number.
    pub nan_count: usize,
    /// Infinite values.
    pub inf_count: usize,
    /// Share of values that are zero.
    pub zero_fraction: f64,
    /// SHA-256 of shape and values.
    pub checksum: String,
    /// SHA-256 of shape, encoding and encoded blocks; none where the file does not hold them row by row.
    pub blocks_checksum: Option<String>,
}

/// Nearest-rank percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)] // the name is the percentile
pub struct Percentiles {
    pub p5: f32,
    pub p25: f32,
    pub p50: f32,
    pub p75: f32,
    pub p95: f32,
}

fn of_tensor(tensor: &Viewed) -> Result<Fingerprint> {
    let values = tensor.values()?;
    let s = Statistics::of(&values);
    let finite = (s.n > s.non_finite).then_some(());
    let blocks = tensor.blocks()?.map(|blocks| {
        let mut hash = hash_of_shape(tensor.shape());
        hash.update(tensor.dtype().name());
        hash.update(&blocks);
        hex(&hash.finalize())
    });
    Ok(Fingerprint {
        name: tensor.name().to_owned(),
        shape: tensor.shape().0.clone(),
        dtype: tensor.dtype().name(),
        mean: finite.map(|()| s.mean),
        std: finite.map(|()| s.std),
        min: finite.map(|()| s.min),
        max: finite.map(|()| s.max),
        nan_count: values.iter().filter(|v| v.is_nan()).count(),
        inf_count: values.iter().filter(|v| v.is_infinite()).count(),
        zero_fraction: if values.is_empty() { 0.0 } else { s.zeros as f64 / values.len() as f64 },
        checksum: checksum(tensor.shape(), &values),
        blocks_checksum: blocks,
        percentiles: percentiles(values),
    })
}

/// The hash of values under a shape. A zero is a zero and a NaN a NaN, whatever its sign and payload.
fn checksum(shape: &Shape, values: &[f32]) -> String {
    let mut hash = hash_of_shape(shape);
    let mut buffer = Vec::with_capacity(4 * 4096);
    for piece in values.chunks(4096) {
        buffer.clear();
        for &value in piece {
            let one = if value.is_nan() { f32::NAN } else { value + 0.0 };
            buffer.extend_from_slice(&one.to_le_bytes());
        }
        hash.update(&buffer);
    }
    hex(&hash.finalize())
}

fn hash_of_shape(shape: &Shape) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update((shape.ndim() as u64).to_le_bytes());
    shape.0.iter().for_each(|&d| hash.update((d as u64).to_le_bytes()));
    hash
}

fn percentiles(mut values: Vec<f32>) -> Option<Percentiles> {
    values.retain(|v| v.is_finite());
    let n = values.len();
    values.sort_unstable_by(f32::total_cmp);
    let at = |percent: usize| values.get((percent * n).div_ceil(100).saturating_sub(1)).copied();
    Some(Percentiles { p5: at(5)?, p25: at(25)?, p50: at(50)?, p75: at(75)?, p95: at(95)? })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::view;
    use super::*;
    use crate::models::FAMILIES;
    use crate::models::fixture::{Tiny, tensor, with_tensors};
    use crate::tensor::DType;
    use proptest::prelude::*;

    fn of(checkpoint: &crate::formats::Checkpoint) -> Fingerprints {
        fingerprint(&view(checkpoint).expect("sound"), &|_| true).expect("decodes")
    }

    #[test]
    fn every_container_of_a_model_has_one_fingerprint() {
        for family in FAMILIES {
            let tiny = Tiny::new(family.id());
            let (hf, gguf) = (of(&tiny.hf(DType::F32)), of(&tiny.gguf(DType::F32)));
            assert_eq!(hf.model, gguf.model, "{}", family.id());
            assert!(hf.tensors.len() > 10);
            for (a, b) in hf.tensors.iter().zip(&gguf.tensors) {
                assert_eq!((&a.name, &a.checksum), (&b.name, &b.checksum));
                // Blocks are compared in canonical row order, so the permuted rows of a GGUF are equal too.
                assert_eq!(a.blocks_checksum, b.blocks_checksum, "{}", a.name);
            }
        }
    }

    #[test]
    fn equal_quantized_blocks_have_one_fingerprint_in_every_row_order() {
        let (hf, gguf) = (Tiny::new("llama").hf(DType::Q8_0), Tiny::new("llama").gguf(DType::Q8_0));
        let (hf, gguf) = (of(&hf), of(&gguf));
        let q = |f: &Fingerprints| {
            f.tensors.iter().find(|t| t.name == "0.q_proj.weight").expect("a query projection").clone()
        };
        assert_eq!(q(&hf), q(&gguf));
        assert_eq!(q(&hf).dtype, "Q8_0");
        assert!(q(&hf).blocks_checksum.is_some());
    }

    #[test]
    fn one_changed_value_changes_its_tensor_and_the_model_only() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let changed = with_tensors(&sound, |tensors| {
            let t = tensors.iter_mut().find(|t| t.name == "model.norm.weight").expect("a norm");
            let mut values = crate::quant::to_f32(&t.tensor).expect("F32");
            values[3] += 1e-6;
            *t = tensor(&t.name, DType::F32, t.tensor.shape.clone(), &values);
        });
        let (a, b) = (of(&sound), of(&changed));
        assert_ne!(a.model, b.model);
        let differing: Vec<_> =
            a.tensors.iter().zip(&b.tensors).filter(|(x, y)| x.checksum != y.checksum).collect();
        assert_eq!(differing.len(), 1);
        assert_eq!(differing[0].0.name, "output_norm.weight");
    }

    proptest! {
        #[test]
        fn zeros_and_nans_have_one_form_and_everything_else_its_own(values in proptest::collection::vec(any::<f32>(), 1..50)) {
            let shape = Shape::from([values.len()]);
            let plain = checksum(&shape, &values);
            let other: Vec<f32> = values.iter().map(|v| if *v == 0.0 { -v } else if v.is_nan() { -f32::NAN } else { *v }).collect();
            prop_assert_eq!(&plain, &checksum(&shape, &other));
            let mut off = values.clone();
            off[0] = if off[0] == 1.0 { 2.0 } else { 1.0 };
            prop_assert_ne!(&plain, &checksum(&shape, &off));
            prop_assert_ne!(&plain, &checksum(&Shape::from([1, values.len()]), &values));
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let found =
            percentiles((1..=100).rev().map(|v| v as f32).chain([f32::NAN]).collect()).expect("finite");
        assert_eq!((found.p5, found.p25, found.p50, found.p75, found.p95), (5.0, 25.0, 50.0, 75.0, 95.0));
        assert_eq!(percentiles(vec![f32::NAN]), None);
    }
}
