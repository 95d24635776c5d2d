// Weights in F32, as they are.
//
// Equation: value = x.
// Planes:   one of f32, row-major, rows padded with zeros to a multiple of 32 columns.
// Unit:     eight vec4.
// CPU twin: src/quant/f32.rs. Contract: contracts/kernels/dequantize.yaml.

fn values(unit: u32) -> array<vec4<f32>, 8> {
    var out: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        out[i] = bitcast<vec4<f32>>(quants[8u * unit + i]);
    }
    return out;
}
