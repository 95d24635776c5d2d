//! A stored tensor seen as the canonical one: a row range of a fused tensor, a transposed Conv1D, rows in
//! another order. What can be a view is a view; what cannot (a transposition) is made once, in its own dtype.

use super::names::Slot;
use super::{RowOrder, Weight};
use crate::contract::families::Role;
use crate::quant;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{Error, Kind, Result};

/// One canonical tensor and where its values are stored.
#[derive(Debug, Clone)]
pub struct CanonicalTensor {
    /// Canonical name: `0.q_proj.weight`.
    pub name: String,
    /// Name of the stored tensor, which may hold others beside it.
    pub stored: String,
    /// What it is for.
    pub role: Role,
    /// Canonical shape, linear weights `[out, in]`.
    pub shape: Shape,
    /// Stored encoding.
    pub dtype: DType,
    pub(crate) slot: Slot,
    pub(crate) place: Place,
}

/// Where in a stored tensor the canonical one lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The whole stored tensor.
    pub tensor: Tensor,
    /// First canonical row (or element of a vector) inside a fused tensor.
    pub start: usize,
    /// Whether it is stored `[in, out]`.
    pub transposed: bool,
    /// Whether `w` is stored and `1 + w` is meant.
    pub unit_offset: bool,
    /// Order of its rows.
    pub order: RowOrder,
}

impl CanonicalTensor {
    /// The weight as the decoder sees it: shape canonical, rows in [`Weight::rows`] order.
    ///
    /// # Errors
    /// Where the stored encoding cannot be decoded to take it apart.
    pub fn weight(&self) -> Result<Weight> {
        let tensor = if self.place.transposed {
            transpose(&self.place.tensor, self.place.start, &self.shape)
        } else {
            slice(&self.place.tensor, self.place.start, &self.shape)
        };
        let tensor = tensor.and_then(|t| if self.place.unit_offset { plus_one(&t) } else { Ok(t) });
        let tensor = tensor.map_err(|e| e.at(format!("tensor `{}`", self.stored)))?;
        Ok(Weight { tensor, rows: self.place.order })
    }

    /// All values, row-major, in canonical order.
    ///
    /// # Errors
    /// As [`CanonicalTensor::weight`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.weight()?.to_f32()
    }

    /// Whether the stored tensor is this tensor and nothing else.
    pub(crate) fn is_whole(&self) -> bool {
        self.place.tensor.shape.checked_numel() == self.shape.checked_numel()
    }
}

impl Weight {
    /// All values, row-major, in canonical row order.
    ///
    /// # Errors
    /// Where the encoding is no number.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let stored = quant::to_f32(&self.tensor)?;
        if self.rows == RowOrder::Canonical {
            return Ok(stored);
        }
        let (rows, width) = rows_of(&self.tensor.shape);
        let mut values = Vec::with_capacity(stored.len());
        for row in 0..rows {
            let from = self.rows.stored_row(row) * width;
            values.extend_from_slice(&stored[from..from + width]);
        }
        Ok(values)
    }
}

/// Rows and their width as row orders count them: the elements of a vector are rows of one.
pub(crate) fn rows_of(shape: &Shape) -> (usize, usize) {
    if shape.ndim() < 2 { (shape.numel(), 1) } else { (shape.rows(), shape.row_len()) }
}

/// `shape` out of `tensor`, from row `start` on. A view where the range is whole blocks.
fn slice(tensor: &Tensor, start: usize, shape: &Shape) -> Result<Tensor> {
    if tensor.shape == *shape {
        return Ok(tensor.clone());
    }
    let (rows, width) = rows_of(shape);
    let (first, count) = (start * width, rows * width);
    let dtype = tensor.dtype;
    let block = dtype.block_len();
    // Flat encodings have no blocks per row: AprQ8 keeps its scale elsewhere.
    let flat = matches!(dtype, DType::AprQ4 | DType::AprQ8);
    if !flat && first % block == 0 && count % block == 0 {
        let range = first / block * dtype.block_bytes()..(first + count) / block * dtype.block_bytes();
        let bytes = tensor.bytes.slice(range).ok_or_else(|| outside(tensor, shape))?;
        return Ok(Tensor { dtype, shape: shape.clone(), bytes });
    }
    let all = quant::to_f32(tensor)?;
    let part = all.get(first..first + count).ok_or_else(|| outside(tensor, shape))?;
    Ok(f32_tensor(shape, part.iter().copied()))
}

/// `shape` = `[out, in]` out of `tensor` = `[in, all outs]`, columns from `start` on.
fn transpose(tensor: &Tensor, start: usize, shape: &Shape) -> Result<Tensor> {
    let (&[ins, all_outs], &[outs, wanted_ins]) = (&tensor.shape.0[..], &shape.0[..]) else {
        return Err(outside(tensor, shape));
    };
    if wanted_ins != ins || start + outs > all_outs {
        return Err(outside(tensor, shape));
    }
    let source = |out: usize, i: usize| i * all_outs + start + out;
    let in_bytes = |data: &[u8], size: usize, mut bytes: Vec<u8>| {
        for out in 0..outs {
            for i in 0..ins {
                let from = source(out, i) * size;
                bytes.extend_from_slice(&data[from..from + size]);
            }
        }
        Tensor { dtype: tensor.dtype, shape: shape.clone(), bytes: Bytes::from_vec(bytes) }
    };
    let room = |size: usize| Vec::with_capacity(outs * ins * size + 4);
    Ok(match tensor.dtype {
        DType::F32 => in_bytes(&tensor.bytes, 4, room(4)),
        DType::F16 | DType::BF16 => in_bytes(&tensor.bytes, 2, room(2)),
        DType::AprQ8 => {
            // One scale for the whole tensor, then a byte per element.
            let (scale, data) = tensor.bytes.split_at(4);
            let mut bytes = room(1);
            bytes.extend_from_slice(scale);
            in_bytes(data, 1, bytes)
        }
        // Blocks run along `out` here, and the decoder's along `in`: only the values can be kept.
        _ => {
            let values = quant::to_f32(tensor)?;
            f32_tensor(shape, (0..outs * ins).map(|k| values[source(k / ins, k % ins)]))
        }
    })
}

/// `1 + w` in f32, as HF transformers computes it whatever the encoding of `w`.
fn plus_one(tensor: &Tensor) -> Result<Tensor> {
    let values = quant::to_f32(tensor)?;
    Ok(f32_tensor(&tensor.shape, values.iter().map(|w| 1.0 + w)))
}

fn f32_tensor(shape: &Shape, values: impl Iterator<Item = f32>) -> Tensor {
    let bytes = values.flat_map(f32::to_le_bytes).collect();
    Tensor { dtype: DType::F32, shape: shape.clone(), bytes: Bytes::from_vec(bytes) }
}

fn outside(tensor: &Tensor, shape: &Shape) -> Error {
    Error::new(Kind::Contract, "model", format!("{shape} does not lie inside {}", tensor.shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(dims: [usize; 2]) -> Tensor {
        let shape = Shape::from(dims);
        f32_tensor(&shape, (0..shape.numel()).map(|x| x as f32))
    }

    fn part(tensor: Tensor, start: usize, shape: [usize; 2], transposed: bool) -> CanonicalTensor {
        CanonicalTensor {
            name: "0.q_proj.weight".into(),
            stored: "c_attn".into(),
            role: Role::Linear,
            shape: Shape::from(shape),
            dtype: tensor.dtype,
            slot: Slot {
                row: &crate::models::FAMILIES[0].contract().tensors[0],
                layer: 0,
                shape: Shape::from(shape),
            },
            place: Place { tensor, start, transposed, unit_offset: false, order: RowOrder::Canonical },
        }
    }

    #[test]
    fn a_conv1d_is_transposed_by_elements_even_when_square() {
        // [in = 2, out = 2] holding 0 1 / 2 3 is, as [out, in], 0 2 / 1 3.
        assert_eq!(part(f32s([2, 2]), 0, [2, 2], true).to_f32(), Ok(vec![0., 2., 1., 3.]));
    }

    #[test]
    fn a_fused_conv1d_is_split_by_columns() {
        // [in = 2, 3 outs]; the middle column is the row of k.
        assert_eq!(part(f32s([2, 3]), 1, [1, 2], true).to_f32(), Ok(vec![1., 4.]));
    }

    #[test]
    fn every_plain_encoding_is_transposed_in_itself() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::AprQ8] {
            let shape = Shape::from([2, 3]);
            let values = [0., 1., 2., 3., 4., 127.];
            let bytes = quant::from_f32(dtype, &shape, &values).expect("in range");
            let stored = Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) };
            let weight = part(stored, 0, [3, 2], true).weight().expect("decodes");
            assert_eq!(weight.tensor.dtype, dtype);
            assert_eq!(weight.to_f32(), Ok(vec![0., 3., 1., 4., 2., 127.]), "{dtype}");
        }
    }

    #[test]
    fn rows_of_a_fused_block_tensor_are_a_view() {
        let shape = Shape::from([3, 32]);
        let values: Vec<f32> = (0..96).map(|x| x as f32 - 40.0).collect();
        let bytes = quant::from_f32(DType::Q8_0, &shape, &values).expect("in range");
        let stored = Tensor { dtype: DType::Q8_0, shape, bytes: Bytes::from_vec(bytes) };
        let middle = part(stored.clone(), 1, [1, 32], false).weight().expect("a view");
        assert_eq!(middle.tensor.bytes.as_ptr(), stored.bytes[34..].as_ptr(), "nothing is copied");
        assert_eq!(middle.tensor.bytes.len(), 34);
    }

    #[test]
    fn rope_pairs_are_undone() {
        // One head of width 4: stored rows 0 1 2 3 are canonical rows 0 2 1 3.
        let tensor = f32s([4, 1]);
        let weight = Weight { tensor, rows: RowOrder::RopePairs { head_dim: 4 } };
        assert_eq!(weight.to_f32(), Ok(vec![0., 2., 1., 3.]));
    }
}
