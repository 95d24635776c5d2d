// Weights in TQ2_0: 256 ternary columns in 66 bytes.
//
// Equation: value = d * (q - 1).
// Planes:   q, 64 bytes in Q2_K's order; d, f16.
// Unit:     a quarter of a half: two vec4 of q (shared by four units), one d.
// CPU twin: src/quant/tq2_0.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let q = 4u * block + 2u * ((unit / 4u) & 1u);
    let shift = 2u * (unit & 3u);
    let d = half_at(16u * p.blocks, block);
    return Levels(less(bit_pairs(quants[q], shift), 1u), less(bit_pairs(quants[q + 1u], shift), 1u), vec2(d), vec2(0.0));
}
