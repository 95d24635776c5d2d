//! The twin of a conversion: its reference, correctly encoded in the same types. What a candidate loses beyond its twin
//! is not the price of its encoding.

use super::encode::F16_MAX;
use super::threads::on_threads;
use crate::formats::Checkpoint;
use crate::models::{self, CanonicalTensor, Model, RowOrder, Weight, bind_sound};
use crate::quant;
use crate::tensor::{Bytes, DType, Tensor};
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The model of `reference` with every weight encoded by this program's own quantiser in `types[canonical name]`,
/// without an importance matrix. A weight without an entry, or already in that type, keeps its bytes.
///
/// The result holds what it encodes in memory. `threads` share the tensors; no byte depends on them.
///
/// # Errors
/// Those of binding `reference`; [`Kind::Unsupported`] naming the tensor for a type that is only read here;
/// [`Kind::Contract`] where a row is no whole number of blocks; [`Kind::NonFinite`] for values that are no numbers.
pub fn twin(reference: &Checkpoint, types: &BTreeMap<String, DType>, threads: usize) -> Result<Model> {
    let bound = bind_sound(reference)?;
    let encode = |tensor: &CanonicalTensor| -> Result<Weight> {
        let weight = tensor.weight()?;
        match types.get(&tensor.name) {
            Some(dtype) if *dtype != weight.tensor.dtype => encoded(&weight, *dtype),
            Some(_) | None => Ok(weight),
        }
        .map_err(|e| e.at(format!("tensor `{}`", tensor.name)))
    };
    let rest = Mutex::new(bound.tensors.iter());
    let work = || {
        let mut done = Vec::new();
        loop {
            // Taking the next tensor cannot panic, so the lock is never poisoned.
            let next = rest.lock().expect("never poisoned").next();
            let Some(tensor) = next else { return done };
            done.push((tensor.name.clone(), encode(tensor)));
        }
    };
    let made = on_threads(threads.max(1), work);
    let weights = made.into_iter().flatten().map(|(name, w)| Ok((name, w?))).collect::<Result<_>>()?;
    Ok(Model { path: reference.path.clone(), config: bound.config, weights })
}

/// The canonical encodings of a checkpoint, by canonical name: what its twin is to be made of.
///
/// # Errors
/// As [`models::canonical_tensors`].
pub fn encodings(candidate: &Checkpoint) -> Result<BTreeMap<String, DType>> {
    Ok(models::canonical_tensors(candidate)?.into_iter().map(|t| (t.name, t.dtype)).collect())
}

/// The weight in another encoding, rows in canonical order.
fn encoded(weight: &Weight, dtype: DType) -> Result<Weight> {
    if weight.tensor.shape.ndim() > 1 && !weight.tensor.shape.row_len().is_multiple_of(dtype.block_len()) {
        let (row, block) = (weight.tensor.shape.row_len(), dtype.block_len());
        let what = format!("rows of {row} are no whole number of {dtype} blocks of {block}");
        return Err(Error::new(Kind::Contract, "twin", what));
    }
    let mut values = weight.to_f32()?;
    if dtype == DType::F16 {
        // As the converter does where it is allowed to: the nearest value that F16 holds.
        values.iter_mut().for_each(|v| *v = v.clamp(-F16_MAX, F16_MAX));
    }
    let shape = weight.tensor.shape.clone();
    let bytes = Bytes::from_vec(quant::from_f32(dtype, &shape, &values)?);
    Ok(Weight { tensor: Tensor { dtype, shape, bytes }, rows: RowOrder::Canonical })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{ConvertOptions, convert};
    use crate::formats::open;
    use crate::quant::Quantize;
    use std::path::Path;

    /// A conversion by this program is its own twin, value for value, whatever the container.
    #[test]
    fn our_own_conversions_are_their_twins() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models");
        let folder = tempfile::tempdir().expect("a folder");
        let recipes = [(Quantize::Int8, "a.apr"), (Quantize::Q4_K_M, "b.gguf"), (Quantize::Q4_0, "c.gguf")];
        for family in ["tiny-llama", "tiny-gpt2", "tiny-gemma3"] {
            let reference = open(&models.join(family)).expect("a sound model");
            for (quantize, name) in recipes {
                let path = folder.path().join(format!("{family}-{name}"));
                let options = ConvertOptions { quantize: Some(quantize), ..ConvertOptions::default() };
                convert(&reference.path, &path, &options).expect("converts");
                let candidate = open(&path).expect("a sound conversion");
                let types = encodings(&candidate).expect("bound");
                let twin = twin(&reference, &types, 2).expect("encodes");
                let theirs = models::open(&candidate).expect("a model");
                assert_eq!(twin.weights.len(), theirs.weights.len());
                for (name, weight) in &theirs.weights {
                    assert_eq!(twin.weights[name].tensor.dtype, weight.tensor.dtype, "{family} {name}");
                    assert!(twin.weights[name].to_f32() == weight.to_f32(), "{family} {name} differs");
                }
            }
        }
    }

    #[test]
    fn a_type_that_is_only_read_is_refused_by_name() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models/tiny-llama");
        let reference = open(&path).expect("a sound model");
        let types = BTreeMap::from([("0.q_proj.weight".to_owned(), DType::IQ4_NL)]);
        let error = twin(&reference, &types, 1).expect_err("no encoder");
        assert_eq!(error.kind, Kind::Unsupported);
        assert!(error.to_string().contains("0.q_proj.weight"), "{error}");
    }
}
