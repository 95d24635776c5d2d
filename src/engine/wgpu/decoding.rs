//! Every encoding as the kernels read it: valid WGSL, and the codec's values.

use super::planes::{Layout, layout};
use super::sources::source;
use super::test_device::{Bound, test_device};
use crate::quant::{CODECS, codec};
use crate::tensor::DType;

/// The smallest operation: it stores the values of every unit.
const STORE_VALUES: &str = "
struct Params {
    blocks: u32,
    units: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> fields: array<u32>;
@group(0) @binding(2) var<storage, read> grids: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.units {
        let v = values(id.x);
        for (var i = 0u; i < 8u; i++) {
            out[8u * id.x + i] = v[i];
        }
    }
}
";

/// `op` and what decodes weights of `layout`.
fn composed(op: &str, layout: &Layout) -> String {
    let levels = if layout.levels { source("levels") } else { "" };
    [op, levels, source(layout.kernel)].concat()
}

/// The planes of `blocks`.
pub(super) fn planes(layout: &Layout, blocks: &[u8]) -> Vec<u8> {
    let n_blocks = blocks.len() / layout.block_bytes;
    let mut shard = vec![0; layout.device_len(n_blocks)];
    for (i, field) in layout.fields.iter().enumerate() {
        let at = layout.plane_offset(i, n_blocks);
        layout.gather(i, blocks, &mut shard[at..at + n_blocks * field.len]);
    }
    shard
}

/// The code book as it is bound; an encoding without one gets a word that nobody reads.
pub(super) fn grids(layout: &Layout) -> Vec<u32> {
    layout.grids.map_or(vec![0], |grids| grids())
}

/// `len` bytes of which no pattern is rarer than another.
pub(super) fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The values of blocks of `dtype` as its codec gives them.
pub(super) fn decoded(dtype: DType, layout: &Layout, blocks: &[u8]) -> Vec<f32> {
    let codec = codec(dtype).unwrap();
    let mut out = vec![0.0; blocks.len() / layout.block_bytes * layout.block_len];
    if dtype == DType::AprQ8 {
        // The scale of the tensor, which a file has before its elements, stands behind those of a block here.
        for (block, out) in blocks.chunks(36).zip(out.chunks_mut(32)) {
            codec.decode(&[&block[32..], &block[..32]].concat(), out);
        }
    } else {
        codec.decode(blocks, &mut out);
    }
    out
}

/// All bytes are random, so scales are of every class, subnormal ones among them.
#[test]
fn random_blocks_decode_to_the_values_of_the_codec() {
    let Some(device) = test_device() else { return };
    for codec in CODECS {
        let dtype = codec.dtype();
        let Some(layout) = layout(dtype) else { continue };
        // An odd number, so that planes are padded.
        let n_blocks = 1031 * 32usize.div_ceil(layout.block_len);
        let blocks = random_bytes(n_blocks * layout.block_bytes, 1 + dtype as u64);
        let expected = decoded(dtype, layout, &blocks);
        let units = expected.len() / 32;
        let (shard, grids) = (planes(layout, &blocks), grids(layout));
        let bound = [
            Bound::Read(&shard),
            Bound::Read(&shard),
            Bound::Read(bytemuck::cast_slice(&grids)),
            Bound::Write(&vec![0xff; 4 * expected.len()]),
        ];
        let sizes = [n_blocks as u32, units as u32];
        let groups = [units.div_ceil(64) as u32, 1, 1];
        let found = device.run(&composed(STORE_VALUES, layout), &bound, &sizes, groups);
        let found: &[f32] = bytemuck::cast_slice(&found);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                agree(dtype, *found, *expected),
                "{dtype}: element {} of block {}: {found:e} ({:08x}), the codec says {expected:e} ({:08x})",
                i % layout.block_len,
                i / layout.block_len,
                found.to_bits(),
                expected.to_bits()
            );
        }
    }
}

/// WGSL lets a device read and write subnormal numbers as zero, and promises nothing of NaN and infinity but what our own
/// contract asks: that neither becomes a number.
fn agree(dtype: DType, found: f32, expected: f32) -> bool {
    if !expected.is_finite() {
        return !found.is_finite();
    }
    // Two encodings have scales that are subnormal themselves: the value is a level times that. Others' are f16.
    let largest_level = match dtype {
        DType::AprQ8 => 128.0,
        DType::MXFP4 => 12.0,
        _ => 1.0,
    };
    let of_subnormals = largest_level * f32::MIN_POSITIVE;
    found.to_bits() == expected.to_bits() || (expected.abs() < of_subnormals && found == 0.0)
}
