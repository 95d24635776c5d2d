// A unit of 32 columns in integers: levels times activations of 16 bits, added exactly, scaled and offset as in
// accumulate.wgsl.
//
// Contract: contracts/kernels/matmul_wide.yaml. CPU twin: src/engine/cpu/integer.rs, with activations of eight bits.
// x  [n, x_stride] vectors, as quantize_activations_wide.wgsl writes them

alias Unit = Levels;

// Vectors of a unit of x.
const X_UNIT: u32 = 5u;

fn unit_of(index: u32) -> Unit {
    return levels(index);
}

// `chain` and what a weight's unit adds to it with the one of x that begins at `at`.
fn add_unit(w: Unit, at: u32, chain: f32) -> f32 {
    let first = product(w.first, x[at], x[at + 2u]);
    let second = product(w.second, x[at + 1u], x[at + 3u]);
    return accumulate(w.scale, w.offset, first, second, bitcast<vec4<f32>>(x[at + 4u]), chain);
}

// The exact product of sixteen levels with sixteen activations, 256 high + low.
fn product(level: vec4<u32>, high: vec4<u32>, low: vec4<u32>) -> i32 {
    let upper = dot4I8Packed(level.x, high.x) + dot4I8Packed(level.y, high.y)
        + dot4I8Packed(level.z, high.z) + dot4I8Packed(level.w, high.w);
    let lower = dot4I8Packed(level.x, low.x) + dot4I8Packed(level.y, low.y)
        + dot4I8Packed(level.z, low.z) + dot4I8Packed(level.w, low.w);
    return upper * 256 + lower;
}
