// Weights in Q5_K: 256 columns in 176 bytes, eight sub-blocks of 32.
//
// Equation: value = d * scale * q - dmin * min.
// Planes:   the low four bits of q, 128 bytes in Q4_K's order; fifth bits, 32 bytes, bit j of byte l is column l of
//           sub-block j; d, dmin, two f16, with 12 bytes of six-bit scales and minima.
// Unit:     a sub-block: two vec4 of low bits (shared by two units), two of fifth bits (by eight), one of scales.
// CPU twin: src/quant/q5_k.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = true;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let j = unit & 7u;
    let low = 8u * block + 2u * (j / 2u);
    let shift = 4u * (j & 1u);
    let fifth = 8u * p.blocks + 2u * block;
    let first = nibbles(quants[low], shift) | (single_bits(quants[fifth], j) << vec4(4u));
    let second = nibbles(quants[low + 1u], shift) | (single_bits(quants[fifth + 1u], j) << vec4(4u));
    let s = k_scale_and_offset(quants[10u * p.blocks + block], j);
    return Levels(first, second, s.xx, s.yy);
}
