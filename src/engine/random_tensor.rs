//! Numbers of a seed, and tensors of them in every encoding, also in those that the program only reads.

use crate::quant;
use crate::stats::SplitMix;
use crate::tensor::{Bytes, DType, Shape, Tensor};

/// A tensor of values within `center ± spread`, also in the encodings that the program only reads.
pub(crate) fn tensor(dtype: DType, dims: &[usize], center: f32, spread: f32, random: &mut Random) -> Tensor {
    let shape = Shape::from(dims);
    let mut values =
        || -> Vec<f32> { (0..shape.numel()).map(|_| center + spread * random.signed()).collect() };
    let bytes = match quant::from_f32(dtype, &shape, &values()) {
        Ok(bytes) => bytes,
        Err(_) if dtype == DType::F64 => values().iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
        Err(_) => {
            let n = dtype.nbytes(&shape).expect("whole blocks");
            let mut bytes: Vec<u8> = (0..n).map(|_| random.next() as u8).collect();
            let largest = half::f16::from_f32(spread / steps(dtype)).to_le_bytes();
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                for at in half_fields(dtype) {
                    block[*at..at + 2].copy_from_slice(&largest);
                }
                if dtype == DType::MXFP4 {
                    // The scale is a power of two, and levels are up to 6.
                    block[0] = (127.0 + (spread / 6.0).log2().floor()) as u8;
                }
                if dtype == DType::IQ1_M {
                    // The nibbles of the half lie on top of four words.
                    for (i, at) in [49, 51, 53, 55].into_iter().enumerate() {
                        let nibble = largest[i / 2] >> (i % 2 * 4) & 0x0f;
                        block[at] = (block[at] & 0x0f) | nibble << 4;
                    }
                }
            }
            bytes
        }
    };
    Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) }
}

/// What multiplies the f16 scale of a block at most, about: sub-scales times levels.
fn steps(dtype: DType) -> f32 {
    match dtype {
        DType::TQ1_0 | DType::TQ2_0 => 1.0,
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 | DType::AprQ4 => 16.0,
        DType::IQ1_S | DType::IQ1_M => 17.0,
        DType::IQ4_NL => 127.0,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 170.0,
        DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => 500.0,
        DType::IQ3_XXS | DType::IQ3_S => 500.0,
        DType::IQ4_XS => 32.0 * 127.0,
        DType::MXFP4 | DType::AprQ8 => 1.0,
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => 1.0,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => 1.0,
    }
}

/// Where a block holds f16 numbers.
fn half_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::AprQ4 => &[0],
        DType::IQ1_S | DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => &[0],
        DType::IQ3_XXS | DType::IQ3_S | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::TQ1_0 => &[52],
        DType::TQ2_0 => &[64],
        DType::IQ1_M | DType::MXFP4 => &[],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 | DType::AprQ8 => &[],
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => &[],
    }
}

/// Numbers and ids for random models: [`SplitMix`] by a seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        let mut random = SplitMix(self.0);
        let bits = random.bits();
        self.0 = random.0;
        bits
    }

    /// In `[-1, 1)`.
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` ids below `vocab`.
    #[cfg(test)]
    pub(crate) fn ids(&mut self, n: usize, vocab: usize) -> Vec<u32> {
        (0..n).map(|_| (self.next() % vocab as u64) as u32).collect()
    }
}
