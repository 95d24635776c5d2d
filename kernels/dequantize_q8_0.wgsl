// Weights in Q8_0: 32 columns in 34 bytes.
//
// Equation: value = d * q.
// Planes:   q, 32 signed bytes; d, f16.
// Unit:     a block: two vec4 of q, one d.
// CPU twin: src/quant/q8_0.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let d = half_at(8u * p.blocks, unit);
    return Levels(quants[2u * unit], quants[2u * unit + 1u], vec2(d), vec2(0.0));
}
