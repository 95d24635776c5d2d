// Products of a weight with a few tokens, SIDE at most, in cooperative matrices: out[t, r] = d[t] * sum_k f16(w[r, k]) q[t, k],
// then bias and epilogue.
//
// Contract: contracts/kernels/matmul_half.yaml. Bindings: products.wgsl; x as round_activations_half.wgsl writes it.
// Workgroup (4 subgroups): SIDE rows. Every subgroup has a chain of 256 columns at a time, which it decodes in steps of 64
// columns; its threads take a unit of 32 columns each. 23 KiB of workgroup memory; rows of it stand 144 bytes apart, so that
// neighbours lie in different banks.
//
// The order of a sum is that of matmul_half.wgsl, so that a prompt gives the bits of its tokens one by one where a cooperative
// product of one token does not depend on the others.

const ROW: u32 = 72u;
const PART: u32 = SIDE * ROW;
const STEP: u32 = 2u;

var<workgroup> w_part: array<f16, GROUPS * PART>;            // [4 subgroups, SIDE rows, 64 columns]
var<workgroup> x_part: array<f16, GROUPS * PART>;            // [4 subgroups, SIDE tokens, 64 columns]
var<workgroup> chains: array<f32, GROUPS * SIDE * SIDE>;     // [4 subgroups, SIDE tokens, SIDE rows]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = (group.y * groups.x + group.x) * SIDE;
    let subgroup = local / SUBGROUP;
    let lane = local % SUBGROUP;
    let part = subgroup * PART;
    let n_chains = (p.units + CHAIN - 1u) / CHAIN;
    // What this thread adds up: every THREADSth of the SIDE * SIDE sums.
    var total: array<f32, (SIDE * SIDE + THREADS - 1u) / THREADS>;
    for (var i = 0u; i < (SIDE * SIDE + THREADS - 1u) / THREADS; i++) {
        total[i] = 0.0;
    }
    for (var begin = 0u; begin < n_chains; begin += GROUPS) {
        // Chains past the end are not added.
        var chain = Sums();
        for (var step = 0u; step < CHAIN; step += STEP) {
            workgroupBarrier();
            for (var i = lane; i < SIDE * STEP; i += SUBGROUP) {
                let row = i / STEP;
                let unit = (begin + subgroup) * CHAIN + step + i % STEP;
                let at = part + row * ROW + i % STEP * 32u;
                // Rows past the end are computed as the last one, tokens past the end and units past the end as zeros.
                if (unit < p.units) {
                    let w = values(min(first + row, p.rows - 1u) * p.units + unit);
                    for (var j = 0u; j < 8u; j++) {
                        let four = vec4<f16>(w[j]);
                        for (var c = 0u; c < 4u; c++) {
                            w_part[at + j * 4u + c] = four[c];
                        }
                    }
                } else {
                    for (var j = 0u; j < 32u; j++) {
                        w_part[at + j] = 0.0h;
                    }
                }
                if (unit < p.units && row < p.n) {
                    for (var j = 0u; j < X_UNIT; j++) {
                        let words = x[row * p.x_stride + unit * X_UNIT + j];
                        let low = four_halves(words.x, words.y);
                        let high = four_halves(words.z, words.w);
                        for (var c = 0u; c < 4u; c++) {
                            x_part[at + j * 8u + c] = low[c];
                            x_part[at + j * 8u + 4u + c] = high[c];
                        }
                    }
                } else {
                    for (var j = 0u; j < 32u; j++) {
                        x_part[at + j] = 0.0h;
                    }
                }
            }
            workgroupBarrier();
            for (var k = 0u; k < STEP * 32u; k += SIDE) {
                let left = coopLoadT<Left>(&w_part[part + k], ROW);
                let right = coopLoad<Right>(&x_part[part + k], ROW);
                chain = coopMultiplyAdd(left, right, chain);
            }
        }
        coopStore(chain, &chains[subgroup * SIDE * SIDE], SIDE);
        workgroupBarrier();
        let here = min(n_chains - begin, GROUPS);
        for (var i = local; i < SIDE * SIDE; i += THREADS) {
            for (var c = 0u; c < here; c++) {
                total[i / THREADS] += chains[c * SIDE * SIDE + i];
            }
        }
    }
    for (var i = local; i < SIDE * SIDE; i += THREADS) {
        let token = i / SIDE;
        store(token, first + i % SIDE, total[i / THREADS] * scale_of(min(token, p.n - 1u)));
    }
}
