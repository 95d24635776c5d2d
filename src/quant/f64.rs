//! F64: IEEE 754 double, read by rounding to the nearest single.

use super::{Codec, assert_blocks};
use crate::tensor::DType;

pub(super) struct F64;

impl Codec for F64 {
    fn dtype(&self) -> DType {
        DType::F64
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<8>().0.iter().zip(out) {
            *y = f64::from_le_bytes(*b) as f32;
        }
    }
}
