// Rotates queries and keys by the angles of their positions, then keeps keys and values: pairs (i, i + half) of a head
// become (a cos - b sin, b cos + a sin).
//
// Contracts: contracts/kernels/{rope,kv_cache}.yaml. CPU twins: src/engine/rope.rs, src/engine/cpu/cache.rs.
// angles       words of f32: [n of the pass, half] cosines from `cos_at` on, as many sines from `sin_at` on
// q            [n, q_stride] f32, n_heads heads of head_dim
// k, v         [n, kv_stride] f32, n_kv_heads heads of head_dim
// keys, values [positions, n_kv_heads, padded] elements of the cache, `padded` being head_dim up to a multiple of 4
// Workgroup (64): one head of one token (queries first, then keys); lanes take pairs, then the elements that no pair
// has. A key and its value are kept in the same dispatch that rotates the key.

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    padded: u32,
    q_stride: u32,
    kv_stride: u32,
    half: u32,
    cos_at: u32,
    sin_at: u32,
    first_row: u32,
    start: u32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> angles: array<u32>;
@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<Kept>;
@group(0) @binding(5) var<storage, read_write> values: array<Kept>;

fn rotated(token: u32, i: u32, a: f32, b: f32) -> vec2<f32> {
    let c = bitcast<f32>(angles[p.cos_at + token * p.half + i]);
    let s = bitcast<f32>(angles[p.sin_at + token * p.half + i]);
    return vec2<f32>(a * c - b * s, b * c + a * s);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = p.first_row + group.y;
    if (group.x < p.n_heads) {
        let begin = token * p.q_stride + group.x * p.head_dim;
        for (var i = lane; i < p.half; i += 64u) {
            let pair = rotated(token, i, q[begin + i], q[begin + i + p.half]);
            q[begin + i] = pair.x;
            q[begin + i + p.half] = pair.y;
        }
        return;
    }
    let head = group.x - p.n_heads;
    let begin = token * p.kv_stride + head * p.head_dim;
    for (var i = lane; i < p.half; i += 64u) {
        let pair = rotated(token, i, k[begin + i], k[begin + i + p.half]);
        k[begin + i] = pair.x;
        k[begin + i + p.half] = pair.y;
    }
    storageBarrier();
    // One lane keeps four neighbours, so that two halves of one word have one writer.
    let to = ((p.start + group.y) * p.n_kv_heads + head) * p.padded;
    for (var i = lane * 4u; i < p.padded; i += 256u) {
        var key = vec4<f32>();
        var value = vec4<f32>();
        for (var j = 0u; j < min(4u, p.head_dim - i); j++) {
            key[j] = k[begin + i + j];
            value[j] = v[begin + i + j];
        }
        keys[(to + i) / 4u] = keep(key);
        values[(to + i) / 4u] = keep(value);
    }
}
