// Weights in Q4_K: 256 columns in 144 bytes, eight sub-blocks of 32.
//
// Equation: value = d * scale * q - dmin * min.
// Planes:   q, 128 bytes, of each 32 the low nibbles one sub-block and the high ones the next; d, dmin, two f16, with 12
//           bytes of six-bit scales and minima.
// Unit:     a sub-block: two vec4 of q (shared by two units), one of scales.
// CPU twin: src/quant/q4_k.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = true;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let j = unit & 7u;
    let q = 8u * block + 2u * (j / 2u);
    let shift = 4u * (j & 1u);
    let s = k_scale_and_offset(quants[8u * p.blocks + block], j);
    return Levels(nibbles(quants[q], shift), nibbles(quants[q + 1u], shift), s.xx, s.yy);
}
