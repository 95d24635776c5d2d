// Weights in BF16, widened exactly.
//
// Equation: value = the f32 whose upper half is x.
// Planes:   one of bf16, row-major, rows padded with zeros to a multiple of 32 columns.
// Unit:     four vec4 of eight columns each.
// CPU twin: src/quant/bf16.rs. Contract: contracts/kernels/dequantize.yaml.

fn values(unit: u32) -> array<vec4<f32>, 8> {
    var out: array<vec4<f32>, 8>;
    for (var i = 0u; i < 4u; i++) {
        let x = quants[4u * unit + i];
        let even = bitcast<vec4<f32>>(x << vec4(16u));
        let odd = bitcast<vec4<f32>>(x & vec4(0xffff0000u));
        out[2u * i] = vec4(even.x, odd.x, even.y, odd.y);
        out[2u * i + 1u] = vec4(even.z, odd.z, even.w, odd.w);
    }
    return out;
}
