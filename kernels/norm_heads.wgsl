// RMS norm of every head, in place: x[t, h] = weight * x[t, h] / sqrt(mean(x[t, h]²) + eps).
//
// Contract: contracts/kernels/rms_norm.yaml. CPU twin: src/engine/cpu/elementwise.rs.
// x       [n, stride] f32, a token's heads beside each other
// weight  [width]
// Workgroup (64): one head of one token, in the order of rms_norm.wgsl.

struct Params {
    width: u32,
    stride: u32,
    eps: f32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let begin = group.y * p.stride + group.x * p.width;
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
        x[begin + i] = x[begin + i] * scale * weight[i];
    }
}
