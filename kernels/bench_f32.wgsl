// The most that multiply-adds in f32 give: eight chains of vectors in registers, each fma waiting only for its own.
//
// Contract: none, it measures. CPU twin: src/engine/cpu/peaks.rs.
// out  [lanes] f32
// Workgroup (256): enough lanes to hide the latency of one fma. A turn is 8 chains of 4 fma, 64 operations a lane.

struct Params {
    turns: u32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // Towards 1 from below: neither infinite nor subnormal, and not known before it is computed.
    let start = vec4<f32>(f32(id.x & 255u) / f32(256.0));
    let half = vec4<f32>(f32(0.5));
    var a = start;
    var b = start * f32(0.9);
    var c = start * f32(0.8);
    var d = start * f32(0.7);
    var e = start * f32(0.6);
    var f = start * f32(0.5);
    var g = start * f32(0.4);
    var h = start * f32(0.3);
    for (var i = 0u; i < p.turns; i++) {
        a = fma(a, half, half);
        b = fma(b, half, half);
        c = fma(c, half, half);
        d = fma(d, half, half);
        e = fma(e, half, half);
        f = fma(f, half, half);
        g = fma(g, half, half);
        h = fma(h, half, half);
    }
    let all = a + b + c + d + e + f + g + h;
    out[id.x] = f32(all.x + all.y + all.z + all.w);
}
