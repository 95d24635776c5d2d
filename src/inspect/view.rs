//! A checkpoint's weights under the names that comparisons go by: canonical ones, or the stored ones of a family
//! that this program does not know.

use crate::formats::{Checkpoint, NamedTensor};
use crate::models::{self, CanonicalTensor, RowOrder, Weight};
use crate::tensor::{DType, Shape, Tensor};
use crate::{Kind, Result, quant};

/// The weights of `checkpoint`: through its family where that is known, as stored where it is not. Integer tensors
/// are no weights and are left out.
///
/// # Errors
/// As [`models::canonical_tensors`], except that an unknown family is no error here.
pub fn view(checkpoint: &Checkpoint) -> Result<View> {
    if let Some(name) = models::unknown_family(checkpoint) {
        let is_weight = |t: &&NamedTensor| t.tensor.dtype.is_plain_float() || t.tensor.dtype.is_quantized();
        let tensors = checkpoint.tensors().iter().filter(is_weight).cloned().map(Viewed::Stored).collect();
        return Ok(View { unknown_family: Some(name), tensors });
    }
    let tensors = models::canonical_tensors(checkpoint)?.into_iter().map(Viewed::Canonical).collect();
    Ok(View { unknown_family: None, tensors })
}

/// The weights of a model that was made here, under their canonical names.
pub fn view_of_model(model: &models::Model) -> View {
    let tensors =
        model.weights.iter().map(|(name, weight)| Viewed::Made(name.clone(), weight.clone())).collect();
    View { unknown_family: None, tensors }
}

/// The weights of a checkpoint.
pub struct View {
    /// What the file calls its architecture, where no family answers to it: names are then the stored ones.
    pub unknown_family: Option<String>,
    /// In table order, or file order.
    pub tensors: Vec<Viewed>,
}

/// One weight.
pub enum Viewed {
    /// Known to the family.
    Canonical(CanonicalTensor),
    /// As it stands in the file.
    Stored(NamedTensor),
    /// Made here, by its canonical name; it stands in no file.
    Made(String, Weight),
}

impl View {
    /// The weight of that name.
    pub fn get(&self, name: &str) -> Option<&Viewed> {
        self.tensors.iter().find(|t| t.name() == name)
    }
}

impl Viewed {
    /// Canonical name, or the stored one.
    pub fn name(&self) -> &str {
        match self {
            Viewed::Canonical(t) => &t.name,
            Viewed::Stored(t) => &t.name,
            Viewed::Made(name, _) => name,
        }
    }

    /// Name in the file.
    pub fn stored(&self) -> &str {
        match self {
            Viewed::Canonical(t) => &t.stored,
            Viewed::Stored(t) => &t.name,
            Viewed::Made(name, _) => name,
        }
    }

    /// Encoding in the file.
    pub fn dtype(&self) -> DType {
        match self {
            Viewed::Canonical(t) => t.dtype,
            Viewed::Stored(t) => t.tensor.dtype,
            Viewed::Made(_, weight) => weight.tensor.dtype,
        }
    }

    /// Whether the stored tensor stands in row tiles.
    pub fn tiled(&self) -> bool {
        let tensor = match self {
            Viewed::Canonical(t) => &t.place.tensor,
            Viewed::Stored(t) => &t.tensor,
            Viewed::Made(_, weight) => &weight.tensor,
        };
        tensor.bytes.tiles().is_some()
    }

    /// Canonical shape, linear weights `[out, in]`.
    pub fn shape(&self) -> &Shape {
        match self {
            Viewed::Canonical(t) => &t.shape,
            Viewed::Stored(t) => &t.tensor.shape,
            Viewed::Made(_, weight) => &weight.tensor.shape,
        }
    }

    /// All values, row-major, in canonical row order.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for an encoding that cannot be read.
    pub fn values(&self) -> Result<Vec<f32>> {
        match self {
            Viewed::Canonical(t) => t.to_f32(),
            Viewed::Stored(t) => quant::to_f32(&t.tensor),
            Viewed::Made(_, weight) => weight.to_f32(),
        }
    }

    /// The encoded bytes in canonical row order: equal for equal blocks, whatever the container. `None` where the
    /// stored blocks are not those of the canonical rows (a transposed or a flat encoding).
    ///
    /// # Errors
    /// As [`Viewed::values`].
    pub fn blocks(&self) -> Result<Option<Vec<u8>>> {
        let canonical = match self {
            Viewed::Stored(t) => return Ok(Some(t.tensor.bytes.plain().into_owned())),
            Viewed::Made(_, weight) => return Ok(canonical_bytes(weight)),
            Viewed::Canonical(t) => t,
        };
        let weight = match canonical.weight() {
            Err(e) if e.kind == Kind::Unsupported => return Ok(None),
            other => other?,
        };
        if weight.tensor.dtype != canonical.dtype {
            return Ok(None);
        }
        Ok(canonical_bytes(&weight))
    }
}

/// The bytes of a weight, rows in canonical order.
fn canonical_bytes(weight: &Weight) -> Option<Vec<u8>> {
    match weight.rows {
        RowOrder::Canonical => Some(weight.tensor.bytes.plain().into_owned()),
        RowOrder::RopePairs { .. } => reordered(&weight.tensor, weight.rows),
    }
}

/// The rows of `tensor` in canonical order; `None` where a row is no whole number of bytes of its own.
fn reordered(tensor: &Tensor, rows: RowOrder) -> Option<Vec<u8>> {
    if matches!(tensor.dtype, DType::AprQ4 | DType::AprQ8) {
        return None;
    }
    let (count, _) = models::rows_of(&tensor.shape);
    let stored = tensor.bytes.plain();
    let width = stored.len().checked_div(count)?;
    let mut bytes = Vec::with_capacity(stored.len());
    for row in 0..count {
        let from = rows.stored_row(row) * width;
        bytes.extend_from_slice(stored.get(from..from + width)?);
    }
    Some(bytes)
}
