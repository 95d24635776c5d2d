// RMS norm: out[r] = weight * x[r] / sqrt(mean(x[r]²) + eps).
//
// Contract: contracts/kernels/rms_norm.yaml. CPU twin: src/engine/cpu/elementwise.rs.
// x       rows of `width` columns: row r is head r % heads of token r / heads, a token being `stride` apart
// rows    words; where `rows_at` is no NONE, row r of the output is token rows[rows_at + r] of the input
// weight  [width]
// out     as x, `out_stride` apart; may be x itself in another dispatch, never in this one (see norm_heads.wgsl)
// Workgroup (64): one row. Lane l sums the squares of columns l, l + 64, ...; the lanes are added by halves. So the
// order of the sum depends on the width alone.

struct Params {
    width: u32,
    stride: u32,
    out_stride: u32,
    rows_at: u32,
    eps: f32,
}

const NONE: u32 = 0xffffffffu;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var token = group.x;
    if (p.rows_at != NONE) {
        token = rows[p.rows_at + group.x];
    }
    let begin = token * p.stride;
    var sum = 0.0;
    for (var i = lane; i < p.width; i += 64u) {
        let value = x[begin + i];
        sum = fma(value, value, sum);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(sums[0] / f32(p.width) + p.eps);
    for (var i = lane; i < p.width; i += 64u) {
        out[group.x * p.out_stride + i] = x[begin + i] * scale * weight[i];
    }
    // What multiplies in blocks reads whole units, also of memory that another width had before.
    for (var i = p.width + lane; i < p.out_stride; i += 64u) {
        out[group.x * p.out_stride + i] = 0.0;
    }
}
