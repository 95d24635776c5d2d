// What the integer products of a unit of 32 columns add to a sum: chain + d * (scale products + offset sums).
//
// Contract: contracts/kernels/matmul_wide.yaml. CPU twin: src/engine/cpu/integer.rs (`step`).
// scale, offset  of the weight's columns 0..16 and 16..32
// first, second  the products of those columns
// activation     d of the activations and the sums of their halves, as quantize_activations_wide.wgsl writes them
// One text for matvec_fast.wgsl and matmul_fast.wgsl, as both have to round alike.

fn accumulate(scale: vec2<f32>, offset: vec2<f32>, first: i32, second: i32, activation: vec3<f32>, chain: f32) -> f32 {
    var unit = fma(scale.y, f32(second), scale.x * f32(first));
    if OFFSETS {
        unit = fma(offset.y, activation.z, fma(offset.x, activation.y, unit));
    }
    return fma(activation.x, unit, chain);
}
