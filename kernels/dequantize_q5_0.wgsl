// Weights in Q5_0: 32 columns in 22 bytes.
//
// Equation: value = d * (q - 16).
// Planes:   the low four bits of q, 16 bytes in Q4_0's order; 32 fifth bits, bit i of column i; d, f16.
// Unit:     a block: one vec4, one word of fifth bits, one d.
// CPU twin: src/quant/q5_0.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let low = quants[unit];
    let fifth = fields[4u * p.blocks + unit];
    let d = half_at(4u * p.blocks + padded(p.blocks), unit);
    let first = nibbles(low, 0u) | (spread_16(fifth) << vec4(4u));
    let second = nibbles(low, 4u) | (spread_16(fifth >> 16u) << vec4(4u));
    return Levels(less(first, 16u), less(second, 16u), vec2(d), vec2(0.0));
}
