// The id of the largest logit of a row, the lowest id among equals; INVALID where a logit is NaN.
//
// Contract: contracts/kernels/sampling.yaml. CPU twin: src/stats/mod.rs (`argmax`).
// logits  [rows, vocab] f32
// ids     words; row r's goes to ids[ids_at + r]
// Workgroup (256): one row. Lane l looks at ids l, l + 256, ...; the lanes are then compared by halves, so that few
// lanes read a whole vocabulary in whole cache lines.

struct Params {
    vocab: u32,
    ids_at: u32,
}

const INVALID: u32 = 0xffffffffu;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;

var<workgroup> best: array<f32, 256>;
var<workgroup> best_id: array<u32, 256>;

// By its bits: a driver may assume that there are no NaNs.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let begin = group.x * p.vocab;
    var value = 0.0;
    var id = INVALID; // nothing yet
    var nan = false;
    for (var i = lane; i < p.vocab; i += 256u) {
        let logit = logits[begin + i];
        nan = nan || is_nan(logit);
        if (id == INVALID || logit > value) {
            value = logit;
            id = i;
        }
    }
    best[lane] = select(value, bitcast<f32>(0x7fc00000u), nan);
    best_id[lane] = id;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
        if (lane < half) {
            let other = best[lane + half];
            let other_id = best_id[lane + half];
            let mine = best[lane];
            let mine_id = best_id[lane];
            let better = other > mine || (other == mine && other_id < mine_id) || mine_id == INVALID;
            if (!is_nan(mine) && (is_nan(other) || (other_id != INVALID && better))) {
                best[lane] = other;
                best_id[lane] = other_id;
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        ids[p.ids_at + group.x] = select(best_id[0], INVALID, is_nan(best[0]));
    }
}
