// What a unit of 32 columns adds to a sum: for each half chain + (d * scale) * product + offset * (d * sum), or for both at
// once where they have one scale.
//
// Contract: contracts/kernels/matmul_wide.yaml. CPU twin: src/engine/cpu/integer.rs (`step`).
// scale, offset  of the weight's columns 0..16 and 16..32
// first, second  the integer products of those columns
// activation     d of the activations, d times the sum of either half, and of both, as quantize_activations_wide.wgsl
//                writes them
// One text for matvec.wgsl and matmul_wide.wgsl, as both have to round alike. A driver may split a fused multiply-add,
// and then fuse a product with another sum or draw a common factor out. So no product is the addend of another, and no
// two neighbours in the chain have a factor in common: there is nothing to choose.

fn accumulate(scale: vec2<f32>, offset: vec2<f32>, first: i32, second: i32, activation: vec4<f32>, chain: f32) -> f32 {
    let scaled = activation.x * scale;
    var sum: f32;
    if HALVES {
        sum = fma(scaled.x, f32(first), chain);
        if OFFSETS {
            sum = fma(offset.x, activation.y, sum);
        }
        sum = fma(scaled.y, f32(second), sum);
        if OFFSETS {
            sum = fma(offset.y, activation.z, sum);
        }
    } else {
        sum = fma(scaled.x, f32(first + second), chain);
        if OFFSETS {
            sum = fma(offset.x, activation.w, sum);
        }
    }
    return sum;
}
