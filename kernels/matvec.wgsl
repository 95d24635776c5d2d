// Products of a weight with a few tokens: out[t, r] = sum_k w[r, k] x[t, k], then bias and epilogue.
//
// Bindings and contracts: products.wgsl. What a unit of 32 columns adds: unit_f32.wgsl or unit_wide.wgsl.
// Workgroup (64): `lanes` = 1, 2, 4, 8 or 16 to a row, so many that few idle over narrow rows, and 64 / lanes rows, for
// TOKENS tokens. A lane takes every `lanes`th chunk of 64 columns, unpacks it once and multiplies it with all tokens, so that
// weights are read once and neighbouring lanes read neighbouring bytes.
//
// The order of a sum, which matmul.wgsl and matmul_wide.wgsl share: a chunk of 64 columns is one chain from +0 in ascending
// order of its units; the chunks are added in ascending order. So a prompt gives the bits of its tokens one by one, and
// `lanes` changes none.

// Chunks to a lane whose sums are kept before they are added.
const KEPT: u32 = 4u;

// Sums of one token: of 64 / lanes rows, KEPT * lanes chunks each.
const SUMS: u32 = 256u;

var<workgroup> sums: array<f32, TOKENS * SUMS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = 64u / p.lanes;
    let lane = local % p.lanes;
    let own = local / p.lanes;
    let base = (group.y * groups.x + group.x) * rows;
    // Rows and tokens past the end are computed as the last ones and not stored, so that all lanes meet at the barriers.
    let row = min(base + own, p.rows - 1u);
    let token = group.z * TOKENS;
    let chunks = (p.units + 1u) / 2u;
    let kept = KEPT * p.lanes;
    // The row whose chunks this thread adds up, of every token that it has a turn for.
    let adds_row = local % rows;
    let adds_token = local / rows;
    var total: array<f32, TOKENS>;
    for (var t = 0u; t < TOKENS; t++) {
        total[t] = 0.0;
    }
    for (var begin = 0u; begin < chunks; begin += kept) {
        let end = min(begin + kept, chunks);
        for (var chunk = begin + lane; chunk < end; chunk += p.lanes) {
            var sum: array<f32, TOKENS>;
            for (var t = 0u; t < TOKENS; t++) {
                sum[t] = 0.0;
            }
            for (var unit = chunk * 2u; unit < min(chunk * 2u + 2u, p.units); unit++) {
                let w = unit_of(row * p.units + unit);
                for (var t = 0u; t < TOKENS; t++) {
                    sum[t] = add_unit(w, min(token + t, p.n - 1u) * p.x_stride + unit * X_UNIT, sum[t]);
                }
            }
            for (var t = 0u; t < TOKENS; t++) {
                sums[t * SUMS + own * kept + chunk - begin] = sum[t];
            }
        }
        workgroupBarrier();
        for (var t = 0u; t < TOKENS; t++) {
            let turn = adds_token + t * p.lanes;
            if (turn < TOKENS) {
                for (var i = 0u; i < end - begin; i++) {
                    total[t] += sums[turn * SUMS + adds_row * kept + i];
                }
            }
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < TOKENS; t++) {
        let turn = adds_token + t * p.lanes;
        if (turn < TOKENS) {
            store(token + turn, base + adds_row, total[t]);
        }
    }
}
