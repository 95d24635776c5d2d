//! How blocks stand on the device: field by field, each field of all blocks in a plane of its own, the bytes unchanged.
//!
//! A file's blocks of 18 or 210 bytes would make every read of a kernel a misaligned one. Planes start at multiples of
//! 16 bytes, the large fields first, so that those can be read as `vec4<u32>`. `kernels/dequantize_<dtype>.wgsl` tells
//! the same fields in the same order.

use crate::quant::code_book;
use crate::tensor::DType;

/// How the blocks of `dtype` stand on the device, or `None` where no kernel reads it: such a weight is decoded to F32.
pub(super) fn layout(dtype: DType) -> Option<&'static Layout> {
    Some(match dtype {
        DType::F32 => &F32,
        DType::F16 => &F16,
        DType::BF16 => &BF16,
        DType::Q4_0 => &Q4_0,
        DType::Q4_1 => &Q4_1,
        DType::Q5_0 => &Q5_0,
        DType::Q5_1 => &Q5_1,
        DType::Q8_0 => &Q8_0,
        DType::Q2_K => &Q2_K,
        DType::Q3_K => &Q3_K,
        DType::Q4_K => &Q4_K,
        DType::Q5_K => &Q5_K,
        DType::Q6_K => &Q6_K,
        DType::IQ2_XXS => &IQ2_XXS,
        DType::IQ2_XS => &IQ2_XS,
        DType::IQ3_XXS => &IQ3_XXS,
        DType::IQ1_S => &IQ1_S,
        DType::IQ4_NL => &IQ4_NL,
        DType::IQ3_S => &IQ3_S,
        DType::IQ2_S => &IQ2_S,
        DType::IQ4_XS => &IQ4_XS,
        DType::IQ1_M => &IQ1_M,
        DType::TQ1_0 => &TQ1_0,
        DType::TQ2_0 => &TQ2_0,
        DType::MXFP4 => &MXFP4,
        DType::AprQ4 => &APR_Q4,
        DType::AprQ8 => &APR_Q8,
        DType::F64 | DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => return None,
    })
}

/// The planes of an encoding.
pub(super) struct Layout {
    /// The kernel that reads them: `kernels/<kernel>.wgsl`.
    pub kernel: &'static str,
    /// Whether that kernel gives levels, so that `kernels/levels.wgsl` belongs to it, or values.
    pub levels: bool,
    /// Elements of a block.
    pub block_len: usize,
    /// Bytes of a block. Those of APR_Q8, which has no blocks, are made: 32 elements and the tensor's scale behind them.
    pub block_bytes: usize,
    /// The planes in their order. Together they hold every byte of a block once.
    pub fields: &'static [Field],
    /// The words that the kernel sees as `grids`, for the encodings that have a code book.
    pub grids: Option<fn() -> Vec<u32>>,
}

/// A range of bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Where it begins in the block.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
}

impl Layout {
    /// Where plane `field` of a shard of `n_blocks` begins, in bytes.
    pub fn plane_offset(&self, field: usize, n_blocks: usize) -> usize {
        self.fields[..field].iter().map(|f| (f.len * n_blocks).next_multiple_of(ALIGN)).sum()
    }

    /// The bytes of a shard of `n_blocks`, a multiple of 16.
    pub fn device_len(&self, n_blocks: usize) -> usize {
        self.plane_offset(self.fields.len(), n_blocks)
    }

    /// Writes plane `field` of `blocks` to `out`, which has exactly its length. Every byte of `out` is written once and
    /// none is read, so it may be mapped memory that is slow to read.
    ///
    /// # Panics
    /// Where `blocks` are no whole blocks or `out` is not as long as their fields.
    pub fn gather(&self, field: usize, blocks: &[u8], out: &mut [u8]) {
        let Field { offset, len } = self.fields[field];
        assert!(
            blocks.len().is_multiple_of(self.block_bytes)
                && out.len() == blocks.len() / self.block_bytes * len,
            "{} bytes do not hold plane {field} of {} bytes of {}",
            out.len(),
            blocks.len(),
            self.kernel
        );
        if len == self.block_bytes {
            out.copy_from_slice(blocks);
            return;
        }
        // A constant length turns the copy of a field into moves.
        match len {
            2 => gather::<2>(self.block_bytes, offset, blocks, out),
            4 => gather::<4>(self.block_bytes, offset, blocks, out),
            16 => gather::<16>(self.block_bytes, offset, blocks, out),
            32 => gather::<32>(self.block_bytes, offset, blocks, out),
            64 => gather::<64>(self.block_bytes, offset, blocks, out),
            128 => gather::<128>(self.block_bytes, offset, blocks, out),
            _ => {
                for (block, out) in blocks.chunks_exact(self.block_bytes).zip(out.chunks_exact_mut(len)) {
                    out.copy_from_slice(&block[offset..offset + len]);
                }
            }
        }
    }
}

/// Planes begin at multiples of this many bytes, a `vec4<u32>`.
const ALIGN: usize = 16;

fn gather<const LEN: usize>(block_bytes: usize, offset: usize, blocks: &[u8], out: &mut [u8]) {
    for (block, out) in blocks.chunks_exact(block_bytes).zip(out.as_chunks_mut::<LEN>().0) {
        out.copy_from_slice(&block[offset..offset + LEN]);
    }
}

const fn floats(kernel: &'static str, dtype: DType, fields: &'static [Field]) -> Layout {
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    Layout { kernel, levels: false, block_len, block_bytes, fields, grids: None }
}

const fn blocks(kernel: &'static str, dtype: DType, fields: &'static [Field]) -> Layout {
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    Layout { kernel, levels: true, block_len, block_bytes, fields, grids: None }
}

const fn indexes(
    kernel: &'static str,
    dtype: DType,
    fields: &'static [Field],
    grids: fn() -> Vec<u32>,
) -> Layout {
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    Layout { kernel, levels: true, block_len, block_bytes, fields, grids: Some(grids) }
}

const fn field(offset: usize, len: usize) -> Field {
    Field { offset, len }
}

/// The code book of `dtype`, four elements to a word in ascending order.
fn words(dtype: DType) -> Vec<u32> {
    let elements = code_book(dtype).unwrap_or_default();
    elements.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(four.map(|e| e as u8))).collect()
}

pub(super) static F32: Layout = floats("dequantize_f32", DType::F32, &[field(0, 4)]);
pub(super) static F16: Layout = floats("dequantize_f16", DType::F16, &[field(0, 2)]);
static BF16: Layout = floats("dequantize_bf16", DType::BF16, &[field(0, 2)]);
static Q4_0: Layout = blocks("dequantize_q4_0", DType::Q4_0, &[field(2, 16), field(0, 2)]);
static Q4_1: Layout = blocks("dequantize_q4_1", DType::Q4_1, &[field(4, 16), field(0, 4)]);
static Q5_0: Layout = blocks("dequantize_q5_0", DType::Q5_0, &[field(6, 16), field(2, 4), field(0, 2)]);
static Q5_1: Layout = blocks("dequantize_q5_1", DType::Q5_1, &[field(8, 16), field(0, 8)]);
static Q8_0: Layout = blocks("dequantize_q8_0", DType::Q8_0, &[field(2, 32), field(0, 2)]);
static Q2_K: Layout = blocks("dequantize_q2_k", DType::Q2_K, &[field(16, 64), field(0, 16), field(80, 4)]);
static Q3_K: Layout =
    blocks("dequantize_q3_k", DType::Q3_K, &[field(32, 64), field(0, 32), field(96, 12), field(108, 2)]);
static Q4_K: Layout = blocks("dequantize_q4_k", DType::Q4_K, &[field(16, 128), field(0, 16)]);
static Q5_K: Layout = blocks("dequantize_q5_k", DType::Q5_K, &[field(48, 128), field(16, 32), field(0, 16)]);
static Q6_K: Layout =
    blocks("dequantize_q6_k", DType::Q6_K, &[field(0, 128), field(128, 64), field(192, 16), field(208, 2)]);
static IQ2_XXS: Layout =
    indexes("dequantize_iq2_xxs", DType::IQ2_XXS, &[field(2, 64), field(0, 2)], || words(DType::IQ2_XXS));
static IQ2_XS: Layout =
    indexes("dequantize_iq2_xs", DType::IQ2_XS, &[field(2, 64), field(66, 8), field(0, 2)], || {
        words(DType::IQ2_XS)
    });
static IQ3_XXS: Layout =
    indexes("dequantize_iq3_xxs", DType::IQ3_XXS, &[field(2, 64), field(66, 32), field(0, 2)], || {
        words(DType::IQ3_XXS)
    });
static IQ1_S: Layout =
    indexes("dequantize_iq1_s", DType::IQ1_S, &[field(2, 32), field(34, 16), field(0, 2)], || {
        words(DType::IQ1_S)
    });
static IQ4_NL: Layout =
    indexes("dequantize_iq4_nl", DType::IQ4_NL, &[field(2, 16), field(0, 2)], || words(DType::IQ4_NL));
static IQ3_S: Layout = indexes(
    "dequantize_iq3_s",
    DType::IQ3_S,
    &[field(2, 64), field(74, 32), field(66, 8), field(106, 4), field(0, 2)],
    || words(DType::IQ3_S),
);
static IQ2_S: Layout = indexes(
    "dequantize_iq2_s",
    DType::IQ2_S,
    &[field(2, 32), field(34, 32), field(66, 8), field(74, 8), field(0, 2)],
    || words(DType::IQ2_S),
);
static IQ4_XS: Layout =
    indexes("dequantize_iq4_xs", DType::IQ4_XS, &[field(8, 128), field(0, 8)], || words(DType::IQ4_XS));
static IQ1_M: Layout =
    indexes("dequantize_iq1_m", DType::IQ1_M, &[field(0, 32), field(32, 16), field(48, 8)], || {
        words(DType::IQ1_M)
    });
static TQ1_0: Layout = blocks("dequantize_tq1_0", DType::TQ1_0, &[field(0, 48), field(48, 4), field(52, 2)]);
static TQ2_0: Layout = blocks("dequantize_tq2_0", DType::TQ2_0, &[field(0, 64), field(64, 2)]);
static MXFP4: Layout =
    indexes("dequantize_mxfp4", DType::MXFP4, &[field(1, 16), field(0, 1)], || words(DType::MXFP4));
static APR_Q4: Layout = blocks("dequantize_apr_q4", DType::AprQ4, &[field(2, 16), field(0, 2)]);
static APR_Q8: Layout = Layout {
    kernel: "dequantize_apr_q8",
    levels: true,
    block_len: 32,
    block_bytes: 36,
    fields: &[field(0, 32), field(32, 4)],
    grids: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_hold_every_byte_of_a_block_once_and_begin_aligned() {
        for dtype in DType::ALL {
            let Some(layout) = layout(*dtype) else { continue };
            let blocks: Vec<u8> = (0..5 * layout.block_bytes).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut seen = vec![0; layout.block_bytes];
            for (i, field) in layout.fields.iter().enumerate() {
                assert!(layout.plane_offset(i, 5).is_multiple_of(16), "{dtype}");
                let mut plane = vec![0; 5 * field.len];
                layout.gather(i, &blocks, &mut plane);
                for (b, found) in plane.chunks(field.len).enumerate() {
                    let from = b * layout.block_bytes + field.offset;
                    assert_eq!(found, &blocks[from..from + field.len], "{dtype}: block {b} of plane {i}");
                }
                for seen in &mut seen[field.offset..field.offset + field.len] {
                    *seen += 1;
                }
                let end = layout.plane_offset(i + 1, 5);
                assert!(
                    end >= layout.plane_offset(i, 5) + plane.len(),
                    "{dtype}: plane {i} runs into the next"
                );
            }
            assert!(seen.iter().all(|n| *n == 1), "{dtype}: a byte is in no plane, or in two");
            assert!(layout.device_len(5).is_multiple_of(16), "{dtype}");
        }
    }

    #[test]
    fn every_encoding_that_decodes_to_f32_has_planes() {
        for codec in crate::quant::CODECS {
            let dtype = codec.dtype();
            assert_eq!(layout(dtype).is_none(), dtype == DType::F64, "{dtype}");
        }
    }
}
