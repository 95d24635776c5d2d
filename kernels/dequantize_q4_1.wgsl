// Weights in Q4_1: 32 columns in 20 bytes.
//
// Equation: value = d * q + m.
// Planes:   q, 16 bytes in Q4_0's order; d and m, two f16.
// Unit:     a block: one vec4 of q, one word of d and m.
// CPU twin: src/quant/q4_1.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = true;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let q = quants[unit];
    let d_m = unpack2x16float(fields[4u * p.blocks + unit]);
    return Levels(nibbles(q, 0u), nibbles(q, 4u), d_m.xx, d_m.yy);
}
