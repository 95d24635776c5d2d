// Products of a weight with many tokens: out[t, r] = sum_k w[r, k] x[t, k], then bias and epilogue.
//
// Contract: contracts/kernels/matmul.yaml. CPU twin: src/engine/cpu/matmul.rs. Bindings: products.wgsl; x in vectors of four
// f32.
// Workgroup (64): 64 rows by 64 tokens, every thread 8 rows by 8 tokens in registers, so that four products are made of
// every number that is read. A step is a unit of 32 columns: every thread decodes the unit of one row into workgroup memory
// and brings that of one token, so a weight is decoded once for 64 tokens. 16 KiB of workgroup memory.
//
// The order of a sum is that of matvec.wgsl: chains of 64 columns, added in ascending order.

const TILE: u32 = 64u;

var<workgroup> w_tile: array<f32, 2048>; // [32 columns, 64 rows]
var<workgroup> x_tile: array<f32, 2048>; // [32 columns, 64 tokens]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = (group.y * groups.x + group.x) * TILE;
    let token = group.z * TILE;
    let r = (local % 8u) * 8u;
    let t = (local / 8u) * 8u;
    // Two vectors of four rows for each of eight tokens: what is added up, and the chain of this chunk.
    var total: array<vec4<f32>, 16>;
    var chain: array<vec4<f32>, 16>;
    for (var i = 0u; i < 16u; i++) {
        total[i] = vec4<f32>();
        chain[i] = vec4<f32>();
    }
    // Rows and tokens past the end are computed as the last ones and not stored.
    let own_row = min(first + local, p.rows - 1u) * p.units;
    let own_token = min(token + local, p.n - 1u) * p.x_stride;
    for (var unit = 0u; unit < p.units; unit++) {
        workgroupBarrier();
        let w = values(own_row + unit);
        for (var i = 0u; i < 8u; i++) {
            let a = w[i];
            let b = bitcast<vec4<f32>>(x[own_token + unit * 8u + i]);
            for (var j = 0u; j < 4u; j++) {
                w_tile[(i * 4u + j) * TILE + local] = a[j];
                x_tile[(i * 4u + j) * TILE + local] = b[j];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let w_at = k * TILE + r;
            let x_at = k * TILE + t;
            let low = vec4<f32>(w_tile[w_at], w_tile[w_at + 1u], w_tile[w_at + 2u], w_tile[w_at + 3u]);
            let high = vec4<f32>(w_tile[w_at + 4u], w_tile[w_at + 5u], w_tile[w_at + 6u], w_tile[w_at + 7u]);
            for (var i = 0u; i < 8u; i++) {
                let b = vec4<f32>(x_tile[x_at + i]);
                chain[2u * i] = fma(low, b, chain[2u * i]);
                chain[2u * i + 1u] = fma(high, b, chain[2u * i + 1u]);
            }
        }
        if (unit % 2u == 1u || unit + 1u == p.units) {
            for (var i = 0u; i < 16u; i++) {
                total[i] += chain[i];
                chain[i] = vec4<f32>();
            }
        }
    }
    for (var i = 0u; i < 8u; i++) {
        for (var j = 0u; j < 4u; j++) {
            store(token + t + i, first + r + j, total[2u * i][j]);
            store(token + t + i, first + r + 4u + j, total[2u * i + 1u][j]);
        }
    }
}
