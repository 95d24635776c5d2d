// The k largest logits of a row, best first, the lower id first among equals; ids[0] is INVALID where a logit is NaN.
//
// Contract: contracts/kernels/sampling.yaml. CPU twin: src/stats/logits.rs (`best_first`).
// logits  [vocab] f32
// best    [k] pairs: an id, and the bits of its logit
// Workgroup (256): the row. Every entry has a key of 64 bits, above all others' that come after it: the logit's bits in the
// order of numbers, then the id's complement. The k-th largest key is found digit by digit, eight bits at a time, by
// counting; most often the digits of the logit suffice. The row is read once for each digit, in whole cache lines.

struct Params {
    vocab: u32,
    k: u32, // 1..=256, at most `vocab`
}

const INVALID: u32 = 0xffffffffu;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> best: array<vec2<u32>>;

// What is known of the k-th key so far.
struct Known {
    mask: vec2<u32>,
    digits: vec2<u32>,
    wanted: u32, // entries with these digits that belong to the best
    there: u32,  // entries with these digits
}

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> above: array<u32, 257>;
var<workgroup> known: Known;
var<workgroup> not_a_number: atomic<u32>;
var<workgroup> taken: atomic<u32>;
var<workgroup> found: array<vec2<u32>, 256>;

fn key_of(id: u32) -> vec2<u32> {
    let bits = bitcast<u32>(logits[id]);
    return vec2(select(bits | 0x80000000u, ~bits, bits >= 0x80000000u), ~id);
}

fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y > b.y);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) {
        known = Known(vec2<u32>(), vec2<u32>(), p.k, p.vocab);
        atomicStore(&not_a_number, 0u);
        atomicStore(&taken, 0u);
        above[256] = 0u;
    }
    for (var digit = 0u; digit < 8u; digit++) {
        atomicStore(&bins[lane], 0u);
        let so_far = workgroupUniformLoad(&known);
        if (so_far.wanted == so_far.there) {
            break;
        }
        let word = digit / 4u;
        let shift = 24u - 8u * (digit % 4u);
        for (var id = lane; id < p.vocab; id += 256u) {
            let key = key_of(id);
            if (all((key & so_far.mask) == so_far.digits)) {
                atomicAdd(&bins[(key[word] >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        // above[i]: entries whose digit is i or more.
        above[lane] = atomicLoad(&bins[lane]);
        for (var step = 1u; step < 256u; step *= 2u) {
            workgroupBarrier();
            var more = 0u;
            if (lane + step < 256u) {
                more = above[lane + step];
            }
            workgroupBarrier();
            above[lane] += more;
        }
        workgroupBarrier();
        if (above[lane] >= so_far.wanted && above[lane + 1u] < so_far.wanted) {
            known.mask[word] |= 255u << shift;
            known.digits[word] |= lane << shift;
            known.wanted = so_far.wanted - above[lane + 1u];
            known.there = above[lane] - above[lane + 1u];
        }
    }
    let last = workgroupUniformLoad(&known);
    for (var id = lane; id < p.vocab; id += 256u) {
        let key = key_of(id);
        if ((bitcast<u32>(logits[id]) & 0x7fffffffu) > 0x7f800000u) {
            atomicStore(&not_a_number, 1u);
        }
        if (!before(last.digits, key & last.mask)) {
            let at = atomicAdd(&taken, 1u);
            if (at < 256u) {
                found[at] = key;
            }
        }
    }
    workgroupBarrier();
    if (lane < p.k) {
        let mine = found[lane];
        var rank = 0u;
        for (var i = 0u; i < p.k; i++) {
            rank += select(0u, 1u, before(found[i], mine));
        }
        let id = select(~mine.y, INVALID, atomicLoad(&not_a_number) != 0u);
        best[rank] = vec2(id, select(~mine.x, mine.x & 0x7fffffffu, mine.x >= 0x80000000u));
    }
}
