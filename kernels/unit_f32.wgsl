// A unit of 32 columns in f32: one chain of fused multiply-adds in ascending order.
//
// Contract: contracts/kernels/matmul.yaml. CPU twin: src/engine/cpu/matmul.rs.
// x  [n, x_stride] vectors of four f32

alias Unit = array<vec4<f32>, 8>;

// Vectors of a unit of x.
const X_UNIT: u32 = 8u;

fn unit_of(index: u32) -> Unit {
    return values(index);
}

// `chain` and the products of a weight's unit with the one of x that begins at `at`.
fn add_unit(w: Unit, at: u32, chain: f32) -> f32 {
    var sum = chain;
    for (var i = 0u; i < X_UNIT; i++) {
        let a = w[i];
        let b = bitcast<vec4<f32>>(x[at + i]);
        sum = fma(a.x, b.x, sum);
        sum = fma(a.y, b.y, sum);
        sum = fma(a.z, b.z, sum);
        sum = fma(a.w, b.w, sum);
    }
    return sum;
}
