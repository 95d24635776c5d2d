// x *= factor.
//
// Contract: contracts/kernels/embedding.yaml. CPU twin: src/engine/cpu/mod.rs (`scale`).
// x  [n * stride] f32, padding included
// Workgroup (64): one element a lane; groups run over a plane, as one dimension holds 65,535 of them only.

struct Params {
    len: u32,
    factor: f32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < p.len) {
        x[i] = x[i] * p.factor;
    }
}
