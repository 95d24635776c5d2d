// One split of causal attention: scores, their exponentials and the weighted sum of values of at most 256 positions.
//
// Contract: contracts/kernels/attention.yaml. CPU twin: src/engine/cpu/split.rs.
// q            [n, q_stride] f32, rotated, n_heads heads of head_dim
// keys, values [positions, n_kv_heads, padded] of the cache, by fours
// left      [n, n_heads, splits, head_dim + 2] f32: the weighted sum, then the largest score and the sum of weights
// out          [n, q_stride] f32, written where a query sees one split only
// Workgroup (64): one query head of one token and one split. Lanes take positions for the scores, each a chain over the
// head's elements in ascending order; then the elements of the head, each a chain over positions in ascending order.
// So a result depends on the visible positions alone. The query waits in workgroup memory.

struct Params {
    n_heads: u32,
    group: u32, // query heads per key head
    n_kv_heads: u32,
    head_dim: u32,
    padded: u32,
    q_stride: u32,
    scale: f32,
    window: u32, // positions seen at most
    first_row: u32,
    start: u32,
    first_split: u32,
    splits: u32,
}

const SPLIT: u32 = 256u;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<Kept>;
@group(0) @binding(2) var<storage, read> values: array<Kept>;
@group(0) @binding(3) var<storage, read_write> left: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

var<workgroup> query: array<vec4<f32>, 64>; // up to 256 elements
var<workgroup> weights: array<f32, 256>;
var<workgroup> lanes: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let token = group.y;
    let split = p.first_split + group.z;
    let position = p.start + token;
    let seen_end = position + 1u;
    let seen_start = seen_end - min(seen_end, p.window);
    let first = max(seen_start, split * SPLIT);
    let end = min(seen_end, (split + 1u) * SPLIT);
    if (first >= end) {
        return; // all lanes alike: the combination leaves this split out
    }
    let fours = p.padded / 4u;
    let begin = (p.first_row + token) * p.q_stride + head * p.head_dim;
    for (var i = lane; i < fours; i += 64u) {
        var part = vec4<f32>();
        for (var j = 0u; j < min(4u, p.head_dim - i * 4u); j++) {
            part[j] = q[begin + i * 4u + j];
        }
        query[i] = part;
    }
    workgroupBarrier();

    let kv_head = head / p.group;
    var largest = -3.4028234e38;
    for (var at = first + lane; at < end; at += 64u) {
        let key = (at * p.n_kv_heads + kv_head) * fours;
        var chain = 0.0;
        for (var i = 0u; i < fours; i++) {
            let a = query[i];
            let b = kept(keys[key + i]);
            chain = fma(a.x, b.x, chain);
            chain = fma(a.y, b.y, chain);
            chain = fma(a.z, b.z, chain);
            chain = fma(a.w, b.w, chain);
        }
        let score = chain * p.scale;
        weights[at - first] = score;
        largest = max(largest, score);
    }
    lanes[lane] = largest;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if (lane < half) {
            lanes[lane] = max(lanes[lane], lanes[lane + half]);
        }
        workgroupBarrier();
    }
    largest = lanes[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var at = lane; at < end - first; at += 64u) {
        let weight = exponential(weights[at] - largest);
        weights[at] = weight;
        sum += weight;
    }
    lanes[lane] = sum;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
        workgroupBarrier();
    }
    sum = lanes[0];

    let alone = seen_start / SPLIT == (seen_end - 1u) / SPLIT;
    let to = ((token * p.n_heads + head) * p.splits + group.z) * (p.head_dim + 2u);
    for (var i = lane; i < fours; i += 64u) {
        var chain = vec4<f32>();
        for (var at = first; at < end; at++) {
            chain = fma(vec4<f32>(weights[at - first]), kept(values[(at * p.n_kv_heads + kv_head) * fours + i]), chain);
        }
        for (var j = 0u; j < min(4u, p.head_dim - i * 4u); j++) {
            if (alone) {
                out[begin + i * 4u + j] = chain[j] * (1.0 / sum);
            } else {
                left[to + i * 4u + j] = chain[j];
            }
        }
    }
    if (lane == 0u && !alone) {
        left[to + p.head_dim] = largest;
        left[to + p.head_dim + 1u] = sum;
    }
}
