// Products of a weight with many tokens in cooperative matrices: out[t, r] = d[t] * sum_k f16(w[r, k]) q[t, k], then bias and
// epilogue.
//
// Contract: contracts/kernels/matmul_half.yaml. Bindings: products.wgsl; x as round_activations_half.wgsl writes it.
// Workgroup (4 subgroups): 64 rows by 64 tokens, a quarter to each subgroup, 32 by 32 in matrices of SIDE. A step is a unit of
// 32 columns: the threads decode those of 64 rows and bring those of 64 tokens, in f16. 26 KiB of workgroup memory; rows
// of it stand 80 bytes apart, so that neighbours lie in different banks.
//
// The order of a sum, which matvec_half.wgsl shares: 256 columns are one chain of cooperative products from +0 in ascending
// order; the chains are added in ascending order.

const TILE: u32 = 64u;
const QUARTER: u32 = 32u;
const ROW: u32 = 40u;
const EACH: u32 = QUARTER / SIDE;

var<workgroup> w_tile: array<f16, TILE * ROW>;     // [64 rows, 32 columns]
var<workgroup> x_tile: array<f16, TILE * ROW>;     // [64 tokens, 32 columns]
var<workgroup> sum_tile: array<f32, TILE * TILE>;  // [64 tokens, 64 rows]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = (group.y * groups.x + group.x) * TILE;
    let token = group.z * TILE;
    let subgroup = local / SUBGROUP;
    let r = (subgroup % 2u) * QUARTER;
    let t = (subgroup / 2u) * QUARTER;
    var total: array<Sums, EACH * EACH>;
    var chain: array<Sums, EACH * EACH>;
    for (var i = 0u; i < EACH * EACH; i++) {
        total[i] = Sums();
        chain[i] = Sums();
    }
    for (var unit = 0u; unit < p.units; unit++) {
        workgroupBarrier();
        // Rows and tokens past the end are computed as the last ones and not stored.
        for (var i = local; i < 2u * TILE; i += THREADS) {
            if (i < TILE) {
                let w = values(min(first + i, p.rows - 1u) * p.units + unit);
                for (var j = 0u; j < 8u; j++) {
                    let four = vec4<f16>(w[j]);
                    for (var c = 0u; c < 4u; c++) {
                        w_tile[i * ROW + j * 4u + c] = four[c];
                    }
                }
            } else {
                let at = min(token + i - TILE, p.n - 1u) * p.x_stride + unit * X_UNIT;
                for (var j = 0u; j < X_UNIT; j++) {
                    let words = x[at + j];
                    let low = four_halves(words.x, words.y);
                    let high = four_halves(words.z, words.w);
                    for (var c = 0u; c < 4u; c++) {
                        x_tile[(i - TILE) * ROW + j * 8u + c] = low[c];
                        x_tile[(i - TILE) * ROW + j * 8u + 4u + c] = high[c];
                    }
                }
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += SIDE) {
            var right: array<Right, EACH>;
            for (var j = 0u; j < EACH; j++) {
                right[j] = coopLoad<Right>(&x_tile[(t + j * SIDE) * ROW + k], ROW);
            }
            for (var i = 0u; i < EACH; i++) {
                let left = coopLoadT<Left>(&w_tile[(r + i * SIDE) * ROW + k], ROW);
                for (var j = 0u; j < EACH; j++) {
                    chain[i * EACH + j] = coopMultiplyAdd(left, right[j], chain[i * EACH + j]);
                }
            }
        }
        if (unit % CHAIN == CHAIN - 1u || unit + 1u == p.units) {
            for (var i = 0u; i < EACH * EACH; i++) {
                total[i] = total[i] + chain[i];
                chain[i] = Sums();
            }
        }
    }
    for (var i = 0u; i < EACH; i++) {
        for (var j = 0u; j < EACH; j++) {
            coopStore(total[i * EACH + j], &sum_tile[(t + j * SIDE) * TILE + r + i * SIDE], TILE);
        }
    }
    workgroupBarrier();
    for (var i = local; i < TILE * TILE; i += THREADS) {
        let own_token = token + i / TILE;
        store(own_token, first + i % TILE, sum_tile[i] * scale_of(min(own_token, p.n - 1u)));
    }
}
