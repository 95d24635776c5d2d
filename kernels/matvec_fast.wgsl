// Products of a weight in levels with a few tokens of 16-bit activations: out[t, r] = sum_k w[r, k] x[t, k], then bias and
// epilogue.
//
// Contract: contracts/kernels/matmul_wide.yaml. CPU twin: src/engine/cpu/integer.rs, with activations of eight bits.
// quants, fields, grids  the shard: `rows` rows from `first_row` on, in the encoding of its file, `units` of 32 columns each
// x     [n, x_stride] vec4, as quantize_activations_wide.wgsl writes them; x_stride = 5 * units
// bias  [rows of the whole weight], read where `has_bias` is set
// out   [n, out_stride] f32
// Workgroup (64): ROWS = 4 rows by 16 lanes, for TOKENS tokens, as matvec.wgsl: a lane takes every 16th chunk of 64 columns
// and unpacks it once for all tokens.
//
// The order of a sum, which matmul_fast.wgsl shares: the products of 16 columns are added as integers, exactly; a unit is
// scaled and offset as in accumulate.wgsl; the two units of a chunk are one chain of fused multiply-adds from +0; the chunks
// are added in ascending order.

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
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
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
                let w = levels(row * p.units + unit);
                for (var t = 0u; t < TOKENS; t++) {
                    // Tokens past the end are computed as the last one and not stored.
                    let at = min(token + t, p.n - 1u) * p.x_stride + 5u * unit;
                    let first = product(w.first, x[at], x[at + 2u]);
                    let second = product(w.second, x[at + 1u], x[at + 3u]);
                    sum[t] = accumulate(w.scale, w.offset, first, second, bitcast<vec4<f32>>(x[at + 4u]), sum[t]);
                }
            }
            for (var t = 0u; t < TOKENS; t++) {
                sums[(t * ROWS + own) * KEPT + chunk - kept] = sum[t];
            }
        }
        workgroupBarrier();
        if (local < ROWS * TOKENS) {
            let start = (adds_token * ROWS + adds_row) * KEPT;
            for (var i = 0u; i < end - kept; i++) {
                total += sums[start + i];
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

// The exact product of sixteen levels with sixteen activations, 256 high + low.
fn product(level: vec4<u32>, high: vec4<u32>, low: vec4<u32>) -> i32 {
    let upper = dot4I8Packed(level.x, high.x) + dot4I8Packed(level.y, high.y)
        + dot4I8Packed(level.z, high.z) + dot4I8Packed(level.w, high.w);
    let lower = dot4I8Packed(level.x, low.x) + dot4I8Packed(level.y, low.y)
        + dot4I8Packed(level.z, low.z) + dot4I8Packed(level.w, low.w);
    return upper * 256 + lower;
}
