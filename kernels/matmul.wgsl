// Products of a weight with many tokens: out[t, r] = sum_k w[r, k] x[t, k], then bias and epilogue.
//
// Contract: contracts/kernels/matmul.yaml. CPU twin: src/engine/cpu/matmul.rs.
// quants, fields, x, bias, out  as in matvec.wgsl
// Workgroup (64): 32 rows by 32 tokens, every thread 4 rows by 4 tokens in registers. A step is a unit of 32 columns: one
// half of the threads decodes a row's unit into workgroup memory, the other half brings a token's columns, so a weight
// is decoded once for 32 tokens. 8 KiB of workgroup memory leaves room for several workgroups side by side.
//
// The order of a sum is that of matvec.wgsl: chains of 64 columns, added in ascending order.

struct Params {
    blocks: u32,
    units: u32,
    rows: u32,
    first_row: u32,
    n: u32,
    x_stride: u32,
    out_stride: u32,
    has_bias: u32,
    epilogue: u32, // as in epilogue.wgsl
}

const TILE: u32 = 32u;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> fields: array<u32>;
@group(0) @binding(2) var<storage, read> grids: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

var<workgroup> w_tile: array<f32, 1024>; // [32 columns, 32 rows]
var<workgroup> x_tile: array<f32, 1024>; // [32 columns, 32 tokens]

fn store(token: u32, row: u32, sum: f32) {
    if (token < p.n && row < p.rows) {
        let r = p.first_row + row;
        var total = sum;
        if (p.has_bias != 0u) {
            total += bias[r];
        }
        finish(token * p.out_stride + r, total);
    }
}

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
        if (local < TILE) {
            // Rows and tokens past the end are computed as the last ones and not stored.
            let w = values(min(first + mine, p.rows - 1u) * p.units + unit);
            for (var i = 0u; i < 8u; i++) {
                let a = w[i];
                w_tile[(i * 4u) * TILE + mine] = a.x;
                w_tile[(i * 4u + 1u) * TILE + mine] = a.y;
                w_tile[(i * 4u + 2u) * TILE + mine] = a.z;
                w_tile[(i * 4u + 3u) * TILE + mine] = a.w;
            }
        } else {
            let at = (min(token + mine, p.n - 1u) * p.x_stride + unit * 32u) / 4u;
            for (var i = 0u; i < 8u; i++) {
                let b = x[at + i];
                x_tile[(i * 4u) * TILE + mine] = b.x;
                x_tile[(i * 4u + 1u) * TILE + mine] = b.y;
                x_tile[(i * 4u + 2u) * TILE + mine] = b.z;
                x_tile[(i * 4u + 3u) * TILE + mine] = b.w;
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let at = k * TILE;
            let w = vec4<f32>(w_tile[at + r], w_tile[at + r + 1u], w_tile[at + r + 2u], w_tile[at + r + 3u]);
            chain0 = fma(w, vec4<f32>(x_tile[at + t]), chain0);
            chain1 = fma(w, vec4<f32>(x_tile[at + t + 1u]), chain1);
            chain2 = fma(w, vec4<f32>(x_tile[at + t + 2u]), chain2);
            chain3 = fma(w, vec4<f32>(x_tile[at + t + 3u]), chain3);
        }
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
