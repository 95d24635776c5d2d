// The most that memory gives: reads all of x once and keeps a word of each lane's that nobody can leave out.
//
// Contract: none, it measures. CPU twin: src/engine/cpu/limits.rs.
// x    [n] vec4<u32>, much larger than any cache
// out  [lanes] u32
// Workgroup (256): enough lanes to keep requests in flight. Neighbouring lanes read neighbouring vectors; four reads of
// a lane do not wait for each other.

struct Params {
    n: u32,
    // All lanes of the dispatch.
    lanes: u32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var a = vec4<u32>();
    var b = vec4<u32>();
    var c = vec4<u32>();
    var d = vec4<u32>();
    for (var i = id.x; i < p.n; i += 4u * p.lanes) {
        a ^= x[i];
        b ^= x[min(i + p.lanes, p.n - 1u)];
        c ^= x[min(i + 2u * p.lanes, p.n - 1u)];
        d ^= x[min(i + 3u * p.lanes, p.n - 1u)];
    }
    let all = a ^ b ^ c ^ d;
    out[id.x] = all.x ^ all.y ^ all.z ^ all.w;
}
