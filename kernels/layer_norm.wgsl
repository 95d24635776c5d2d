// Layer norm: out[r] = weight * (x[r] - mean) / sqrt(variance + eps) + bias, with the variance of the population.
//
// Contract: contracts/kernels/layer_norm.yaml. CPU twin: src/engine/cpu/elementwise.rs.
// x, rows, weight, out  as in rms_norm.wgsl
// bias                  [width]
// Workgroup (64): one row, read twice for its mean and its variance. Lane l sums columns l, l + 64, ...; the lanes are
// added by halves.

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
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

var<workgroup> sums: array<f32, 64>;

fn sum_of_lanes(lane: u32, own: f32) -> f32 {
    workgroupBarrier();
    sums[lane] = own;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    return sums[0];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var token = group.x;
    if (p.rows_at != NONE) {
        token = rows[p.rows_at + group.x];
    }
    let begin = token * p.stride;
    var sum = 0.0;
    for (var i = lane; i < p.width; i += 64u) {
        sum += x[begin + i];
    }
    let mean = sum_of_lanes(lane, sum) / f32(p.width);
    sum = 0.0;
    for (var i = lane; i < p.width; i += 64u) {
        let apart = x[begin + i] - mean;
        sum = fma(apart, apart, sum);
    }
    let scale = 1.0 / sqrt(sum_of_lanes(lane, sum) / f32(p.width) + p.eps);
    for (var i = lane; i < p.width; i += 64u) {
        out[group.x * p.out_stride + i] = fma((x[begin + i] - mean) * scale, weight[i], bias[i]);
    }
    // What multiplies in blocks reads whole units, also of memory that another width had before.
    for (var i = p.width + lane; i < p.out_stride; i += 64u) {
        out[group.x * p.out_stride + i] = 0.0;
    }
}
