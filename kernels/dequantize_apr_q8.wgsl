// Weights in aprender's int8. The file has one scale for a tensor; here every 32 columns have it.
//
// Equation: value = d * q.
// Planes:   q, 32 signed bytes; d, f32.
// Unit:     a block: two vec4 of q, one d.
// CPU twin: src/quant/apr_q8.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let d = bitcast<f32>(fields[8u * p.blocks + unit]);
    return Levels(quants[2u * unit], quants[2u * unit + 1u], vec2(d), vec2(0.0));
}
