// Weights in F16, widened exactly.
//
// Equation: value = the f32 that is equal to the f16 x.
// Planes:   one of f16, row-major, rows padded with zeros to a multiple of 32 columns.
// Unit:     four vec4 of eight columns each.
// CPU twin: src/quant/f16.rs. Contract: contracts/kernels/dequantize.yaml.

fn values(unit: u32) -> array<vec4<f32>, 8> {
    var out: array<vec4<f32>, 8>;
    for (var i = 0u; i < 4u; i++) {
        let x = quants[4u * unit + i];
        out[2u * i] = vec4(unpack2x16float(x.x), unpack2x16float(x.y));
        out[2u * i + 1u] = vec4(unpack2x16float(x.z), unpack2x16float(x.w));
    }
    return out;
}
