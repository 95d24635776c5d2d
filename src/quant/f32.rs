//! F32: IEEE 754 single, little-endian, as it is.

use super::rows::check_rows;
use super::{Codec, assert_blocks};
use crate::Result;
use crate::tensor::DType;

pub(super) struct F32;

impl Codec for F32 {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<4>().0.iter().zip(out) {
            *y = f32::from_le_bytes(*b);
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_rows(self.dtype(), values, row_len, importance)?;
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        Ok(())
    }
}
