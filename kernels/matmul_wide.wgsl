// Products of a weight in levels with many tokens of 16-bit activations: out[t, r] = sum_k w[r, k] x[t, k], then bias and
// epilogue.
//
// Contract: contracts/kernels/matmul_wide.yaml. CPU twin: src/engine/cpu/integer.rs, with activations of eight bits.
// Bindings: products.wgsl; x as quantize_activations_wide.wgsl writes it.
// Workgroup (64): 32 rows by 32 tokens, every thread 4 rows by 4 tokens in registers, as matmul.wgsl. A step is a unit of
// 32 columns: one half of the threads unpacks a row's unit into workgroup memory, the other half brings a token's.
//
// The order of a sum is that of matvec.wgsl.

const TILE: u32 = 32u;

var<workgroup> w_tile: array<u32, 256>;            // [8 words, 32 rows]
var<workgroup> w_scale: array<vec2<f32>, 32>;      // [32 rows], of columns 0..16 and 16..32
var<workgroup> w_offset: array<vec2<f32>, 32>;     // [32 rows]
var<workgroup> x_tile: array<u32, 512>;            // [8 words of high bytes, 8 of low ones; 32 tokens]
var<workgroup> x_scale: array<vec4<f32>, 32>;      // [32 tokens], d and the sums

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = (group.y * groups.x + group.x) * TILE;
    let token = group.z * TILE;
    let mine = local % TILE;
    let r = (local % 8u) * 4u;
    let t = (local / 8u) * 4u;
    // One vector of four rows for each of four tokens: what is added up, and the chain of this chunk.
    var total0 = vec4<f32>();
    var total1 = vec4<f32>();
    var total2 = vec4<f32>();
    var total3 = vec4<f32>();
    var chain0 = vec4<f32>();
    var chain1 = vec4<f32>();
    var chain2 = vec4<f32>();
    var chain3 = vec4<f32>();
    for (var unit = 0u; unit < p.units; unit++) {
        workgroupBarrier();
        // Rows and tokens past the end are computed as the last ones and not stored.
        if (local < TILE) {
            let w = levels(min(first + mine, p.rows - 1u) * p.units + unit);
            for (var i = 0u; i < 4u; i++) {
                w_tile[i * TILE + mine] = w.first[i];
                w_tile[(4u + i) * TILE + mine] = w.second[i];
            }
            w_scale[mine] = w.scale;
            w_offset[mine] = w.offset;
        } else {
            let at = min(token + mine, p.n - 1u) * p.x_stride + 5u * unit;
            for (var i = 0u; i < 4u; i++) {
                let words = x[at + i];
                x_tile[(4u * i) * TILE + mine] = words.x;
                x_tile[(4u * i + 1u) * TILE + mine] = words.y;
                x_tile[(4u * i + 2u) * TILE + mine] = words.z;
                x_tile[(4u * i + 3u) * TILE + mine] = words.w;
            }
            x_scale[mine] = bitcast<vec4<f32>>(x[at + 4u]);
        }
        workgroupBarrier();
        let left = products(0u, r, t);
        let right = products(4u, r, t);
        chain0 = rows(r, left[0], right[0], x_scale[t], chain0);
        chain1 = rows(r, left[1], right[1], x_scale[t + 1u], chain1);
        chain2 = rows(r, left[2], right[2], x_scale[t + 2u], chain2);
        chain3 = rows(r, left[3], right[3], x_scale[t + 3u], chain3);
        if (unit % 2u == 1u || unit + 1u == p.units) {
            total0 += chain0;
            total1 += chain1;
            total2 += chain2;
            total3 += chain3;
            chain0 = vec4<f32>();
            chain1 = vec4<f32>();
            chain2 = vec4<f32>();
            chain3 = vec4<f32>();
        }
    }
    for (var i = 0u; i < 4u; i++) {
        store(token + t, first + r + i, total0[i]);
        store(token + t + 1u, first + r + i, total1[i]);
        store(token + t + 2u, first + r + i, total2[i]);
        store(token + t + 3u, first + r + i, total3[i]);
    }
}

// The exact products of words `word .. word + 4`, of rows r .. r + 4 with each of tokens t .. t + 4: the high bytes' times
// 256, plus the low ones'.
fn products(word: u32, r: u32, t: u32) -> array<vec4<i32>, 4> {
    var sum0 = vec4<i32>();
    var sum1 = vec4<i32>();
    var sum2 = vec4<i32>();
    var sum3 = vec4<i32>();
    for (var part = 0u; part < 16u; part += 8u) {
        sum0 *= 256;
        sum1 *= 256;
        sum2 *= 256;
        sum3 *= 256;
        for (var k = word; k < word + 4u; k++) {
            let start = k * TILE + r;
            let w = vec4(w_tile[start], w_tile[start + 1u], w_tile[start + 2u], w_tile[start + 3u]);
            let at = (part + k) * TILE + t;
            sum0 += dots(w, x_tile[at]);
            sum1 += dots(w, x_tile[at + 1u]);
            sum2 += dots(w, x_tile[at + 2u]);
            sum3 += dots(w, x_tile[at + 3u]);
        }
    }
    return array<vec4<i32>, 4>(sum0, sum1, sum2, sum3);
}

fn dots(w: vec4<u32>, x: u32) -> vec4<i32> {
    return vec4(dot4I8Packed(w.x, x), dot4I8Packed(w.y, x), dot4I8Packed(w.z, x), dot4I8Packed(w.w, x));
}

// What a unit adds to the chains of rows r .. r + 4.
fn rows(r: u32, left: vec4<i32>, right: vec4<i32>, activation: vec4<f32>, chain: vec4<f32>) -> vec4<f32> {
    return vec4(
        accumulate(w_scale[r], w_offset[r], left.x, right.x, activation, chain.x),
        accumulate(w_scale[r + 1u], w_offset[r + 1u], left.y, right.y, activation, chain.y),
        accumulate(w_scale[r + 2u], w_offset[r + 2u], left.z, right.z, activation, chain.z),
        accumulate(w_scale[r + 3u], w_offset[r + 3u], left.w, right.w, activation, chain.w),
    );
}
