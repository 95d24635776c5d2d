// Combines the splits of a query that sees several: M = max m_i, w_i = exp(m_i - M), out = sum w_i a_i / sum w_i l_i.
//
// Contract: contracts/kernels/attention.yaml. CPU twin: src/engine/cpu/attention.rs.
// left, out  as in attention.wgsl
// Workgroup (64): one query head of one token; lanes take elements of the head. Both sums are chains over the splits in
// ascending order. A query that sees one split was finished with it.

struct Params {
    n_heads: u32,
    head_dim: u32,
    q_stride: u32,
    window: u32,
    first_row: u32,
    start: u32,
    first_split: u32,
    splits: u32,
}

const SPLIT: u32 = 256u;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> left: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let token = group.y;
    let seen_end = p.start + token + 1u;
    let seen_start = seen_end - min(seen_end, p.window);
    let first = seen_start / SPLIT - p.first_split;
    let last = (seen_end - 1u) / SPLIT - p.first_split;
    if (first == last) {
        return;
    }
    let width = p.head_dim + 2u;
    let begin = (token * p.n_heads + head) * p.splits * width;
    var largest = -3.4028234e38;
    for (var s = first; s <= last; s++) {
        largest = max(largest, left[begin + s * width + p.head_dim]);
    }
    var sum = 0.0;
    for (var s = first; s <= last; s++) {
        let weight = exponential(left[begin + s * width + p.head_dim] - largest);
        sum = fma(weight, left[begin + s * width + p.head_dim + 1u], sum);
    }
    let to = (p.first_row + token) * p.q_stride + head * p.head_dim;
    for (var i = lane; i < p.head_dim; i += 64u) {
        var chain = 0.0;
        for (var s = first; s <= last; s++) {
            let weight = exponential(left[begin + s * width + p.head_dim] - largest);
            chain = fma(weight, left[begin + s * width + i], chain);
        }
        out[to + i] = chain * (1.0 / sum);
    }
}
