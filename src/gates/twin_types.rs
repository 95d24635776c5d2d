//! Which encodings the twin of a candidate has: the candidate's own, tensor by tensor, where our quantiser makes them.

use super::Trial;
use super::trial::usage;
use crate::quant;
use crate::subject::{Answer, TensorFacts};
use crate::tensor::DType;
use std::collections::BTreeMap;

/// The encodings of a twin.
pub struct TwinTypes {
    /// By canonical name.
    pub made: BTreeMap<String, DType>,
    /// Encodings that are only read here: their tensors have no twin.
    pub unmade: BTreeMap<String, DType>,
}

impl TwinTypes {
    /// The encodings of the candidate in `pairs`, or, for matrices, the coarser one that the playbook's `encoding`
    /// says lies on the way.
    ///
    /// # Errors
    /// A usage error for an encoding that there is not.
    pub fn of(trial: &Trial, pairs: &Pairs) -> Answer<TwinTypes> {
        let coarsest = match trial.settings.given_word("encoding") {
            Some(name) => {
                Some(DType::from_name(name).ok_or_else(|| usage(format!("unknown encoding `{name}`")))?)
            }
            None => None,
        };
        let mut types = TwinTypes { made: BTreeMap::new(), unmade: BTreeMap::new() };
        for (_, tensor) in pairs {
            let dtype = coarsest.filter(|_| tensor.shape.ndim() > 1).unwrap_or(tensor.dtype);
            let whole = tensor.shape.ndim() < 2 || tensor.shape.row_len().is_multiple_of(dtype.block_len());
            let side = if whole && quant::encodes(dtype) { &mut types.made } else { &mut types.unmade };
            side.insert(tensor.name.clone(), dtype);
        }
        Ok(types)
    }
}

/// Tensors of the reference with those of the candidate that have their name and shape.
pub type Pairs<'a> = Vec<(&'a TensorFacts, &'a TensorFacts)>;

/// In the candidate's order.
pub fn pairs<'a>(theirs: &'a [TensorFacts], ours: &'a [TensorFacts]) -> Pairs<'a> {
    let by_name: BTreeMap<&str, &TensorFacts> = theirs.iter().map(|t| (t.name.as_str(), t)).collect();
    let partner = |t: &'a TensorFacts| Some((*by_name.get(t.name.as_str())?, t));
    ours.iter().filter_map(partner).filter(|(a, b)| a.shape == b.shape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_read_has_no_twin() {
        for dtype in [DType::F32, DType::BF16, DType::Q8_0, DType::Q4_K, DType::Q2_K, DType::AprQ8] {
            assert!(quant::encodes(dtype), "{dtype}");
        }
        assert!(!quant::encodes(DType::IQ4_NL) && !quant::encodes(DType::IQ1_S));
    }
}
