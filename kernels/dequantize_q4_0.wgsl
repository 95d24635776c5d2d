// Weights in Q4_0: 32 columns in 18 bytes.
//
// Equation: value = d * (q - 8).
// Planes:   q, 16 bytes, byte j with column j in its low nibble and column j + 16 in its high one; d, f16.
// Unit:     a block: one vec4 of q, one d.
// CPU twin: src/quant/q4_0.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let q = quants[unit];
    let d = half_at(4u * p.blocks, unit);
    return Levels(less(nibbles(q, 0u), 8u), less(nibbles(q, 4u), 8u), vec2(d), vec2(0.0));
}
