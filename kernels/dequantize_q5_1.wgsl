// Weights in Q5_1: 32 columns in 24 bytes.
//
// Equation: value = d * q + m.
// Planes:   the low four bits of q, 16 bytes in Q4_0's order; d and m, two f16, then 32 fifth bits, bit i of column i.
// Unit:     a block: one vec4, one word of d and m, one of fifth bits.
// CPU twin: src/quant/q5_1.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = true;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let low = quants[unit];
    let d_m = unpack2x16float(fields[4u * p.blocks + 2u * unit]);
    let fifth = fields[4u * p.blocks + 2u * unit + 1u];
    let first = nibbles(low, 0u) | (spread_16(fifth) << vec4(4u));
    let second = nibbles(low, 4u) | (spread_16(fifth >> 16u) << vec4(4u));
    return Levels(first, second, d_m.xx, d_m.yy);
}
