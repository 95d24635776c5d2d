//! Code books as a table of elements, for a device that looks entries up itself.

use super::grid::{iq1, iq2, iq3_s, iq3_xxs};
use super::iq1_grid::IQ1;
use super::iq2_grids::{IQ2_S, IQ2_XS, IQ2_XXS};
use super::iq3_grids::{IQ3_S, IQ3_XXS};
use super::{iq4_nl, mxfp4};
use crate::tensor::DType;

/// The code book of an encoding that has one: the elements of every entry, entry after entry, as they are multiplied by the
/// scale; those of IQ1 before they are shifted.
pub(crate) fn code_book(dtype: DType) -> Option<Vec<i8>> {
    let expand = |book: &[u16], len: usize, element: fn(u16, usize) -> u8| {
        book.iter().flat_map(|entry| (0..len).map(move |j| element(*entry, j) as i8)).collect()
    };
    Some(match dtype {
        DType::IQ1_S | DType::IQ1_M => expand(&IQ1, 8, |entry, j| iq1(entry, j) as u8),
        DType::IQ2_XXS => expand(&IQ2_XXS, 8, iq2),
        DType::IQ2_XS => expand(&IQ2_XS, 8, iq2),
        DType::IQ2_S => expand(&IQ2_S, 8, iq2),
        DType::IQ3_XXS => expand(&IQ3_XXS, 4, iq3_xxs),
        DType::IQ3_S => expand(&IQ3_S, 4, iq3_s),
        DType::IQ4_NL | DType::IQ4_XS => iq4_nl::LEVELS.to_vec(),
        DType::MXFP4 => mxfp4::LEVELS.to_vec(),
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => return None,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => return None,
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => return None,
        DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => return None,
        DType::TQ1_0 | DType::TQ2_0 | DType::AprQ4 | DType::AprQ8 => return None,
    })
}
