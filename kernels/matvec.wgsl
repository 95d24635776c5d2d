// Products of a weight with a few tokens: out[t, r] = sum_k w[r, k] x[t, k], then bias and epilogue.
//
// Contract: contracts/kernels/matmul.yaml. CPU twin: src/engine/cpu/matmul.rs.
// quants, fields  the shard: `rows` rows from `first_row` on, in the encoding of its file, `units` of 32 columns each
// x               [n, x_stride] f32; columns past the width are 0
// bias            [rows of the whole weight], read where `has_bias` is set
// out             [n, out_stride] f32
// Workgroup (64): ROWS = 4 rows by 16 lanes, for TOKENS tokens. A lane takes every 16th chunk of 64 columns, decodes it
// once and multiplies it with all tokens, so that weights are read once and neighbouring lanes read neighbouring bytes.
//
// The order of a sum, which matmul.wgsl shares: a chunk of 64 columns is one chain of fused multiply-adds begin +0 in
// ascending order; the chunks are added in ascending order. So a prompt gives the bits of its tokens one by one.

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

const ROWS: u32 = 4u;
const LANES: u32 = 16u;
// Chunks whose sums are kept before they are added.
const KEPT: u32 = 64u;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> fields: array<u32>;
@group(0) @binding(2) var<storage, read> grids: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

var<workgroup> sums: array<f32, 1024>; // [TOKENS, ROWS, KEPT]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = local % LANES;
    let own = local / LANES;
    let base = (group.y * groups.x + group.x) * ROWS;
    // A row past the end is computed as the last one and not stored, so that all lanes meet at the barriers.
    let row = min(base + own, p.rows - 1u);
    let token = group.z * TOKENS;
    let chunks = (p.units + 1u) / 2u;
    // The thread that adds up the chunks of one row and token.
    let adds_row = local % ROWS;
    let adds_token = local / ROWS;
    var total = 0.0;
    for (var kept = 0u; kept < chunks; kept += KEPT) {
        let end = min(kept + KEPT, chunks);
        for (var chunk = kept + lane; chunk < end; chunk += LANES) {
            var sum: array<f32, TOKENS>;
            for (var t = 0u; t < TOKENS; t++) {
                sum[t] = 0.0;
            }
            for (var unit = chunk * 2u; unit < min(chunk * 2u + 2u, p.units); unit++) {
                let w = values(row * p.units + unit);
                for (var t = 0u; t < TOKENS; t++) {
                    // Tokens past the end are computed as the last one and not stored.
                    let at = (min(token + t, p.n - 1u) * p.x_stride + unit * 32u) / 4u;
                    var chain = sum[t];
                    for (var i = 0u; i < 8u; i++) {
                        let a = w[i];
                        let b = x[at + i];
                        chain = fma(a.x, b.x, chain);
                        chain = fma(a.y, b.y, chain);
                        chain = fma(a.z, b.z, chain);
                        chain = fma(a.w, b.w, chain);
                    }
                    sum[t] = chain;
                }
            }
            for (var t = 0u; t < TOKENS; t++) {
                sums[(t * ROWS + own) * KEPT + chunk - kept] = sum[t];
            }
        }
        workgroupBarrier();
        if (local < ROWS * TOKENS) {
            let begin = (adds_token * ROWS + adds_row) * KEPT;
            for (var i = 0u; i < end - kept; i++) {
                total += sums[begin + i];
            }
        }
        workgroupBarrier();
    }
    if (local < ROWS * TOKENS && base + adds_row < p.rows && token + adds_token < p.n) {
        let r = p.first_row + base + adds_row;
        if (p.has_bias != 0u) {
            total += bias[r];
        }
        finish((token + adds_token) * p.out_stride + r, total);
    }
}
