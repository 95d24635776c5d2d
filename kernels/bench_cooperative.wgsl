// The most that cooperative matrices of f16 give, added in f32: eight chains of products to a subgroup, each waiting only for
// its own.
//
// Contract: none, it measures. CPU twin: none.
// out  [matrices of SIDE by SIDE, one to a subgroup] f32
// Workgroup (4 subgroups of SUBGROUP threads). A turn is 8 products, 2 * SIDE^3 operations each, of every subgroup.

enable f16;
enable wgpu_cooperative_matrix;

struct Params {
    turns: u32,
}

const GROUPS: u32 = 4u;
const THREADS: u32 = GROUPS * SUBGROUP;

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> out: array<f32>;

var<workgroup> numbers: array<f16, SIDE * SIDE>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    for (var i = local; i < SIDE * SIDE; i += THREADS) {
        // Small, so that no sum becomes infinite.
        numbers[i] = f16(i & 255u) / f16(65504.0);
    }
    workgroupBarrier();
    let left = coopLoadT<Left>(&numbers[0], SIDE);
    let right = coopLoad<Right>(&numbers[0], SIDE);
    var a = Sums();
    var b = Sums();
    var c = Sums();
    var d = Sums();
    var e = Sums();
    var f = Sums();
    var g = Sums();
    var h = Sums();
    for (var i = 0u; i < p.turns; i++) {
        a = coopMultiplyAdd(left, right, a);
        b = coopMultiplyAdd(left, right, b);
        c = coopMultiplyAdd(left, right, c);
        d = coopMultiplyAdd(left, right, d);
        e = coopMultiplyAdd(left, right, e);
        f = coopMultiplyAdd(left, right, f);
        g = coopMultiplyAdd(left, right, g);
        h = coopMultiplyAdd(left, right, h);
    }
    let all = a + b + c + d + e + f + g + h;
    coopStore(all, &out[(group.x * GROUPS + local / SUBGROUP) * SIDE * SIDE], SIDE);
}
