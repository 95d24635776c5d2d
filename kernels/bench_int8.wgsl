// The most that dot products of bytes give: eight sums in registers, each product waiting only for its own sum.
//
// Contract: none, it measures. CPU twin: src/engine/cpu/peaks.rs.
// out  [lanes] i32
// Workgroup (256): enough lanes to hide the latency of one product. A turn is 8 products of 4 bytes, 64 operations a lane.

struct Params {
    turns: u32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> out: array<i32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // Another word in every turn, so that no product is known from the last.
    var word = id.x * 2654435761u;
    let k = id.x * 2246822519u;
    var a = 0;
    var b = 0;
    var c = 0;
    var d = 0;
    var e = 0;
    var f = 0;
    var g = 0;
    var h = 0;
    for (var i = 0u; i < p.turns; i++) {
        a += dot4I8Packed(word, k);
        b += dot4I8Packed(word, k + 1u);
        c += dot4I8Packed(word, k + 2u);
        d += dot4I8Packed(word, k + 3u);
        e += dot4I8Packed(word, k + 4u);
        f += dot4I8Packed(word, k + 5u);
        g += dot4I8Packed(word, k + 6u);
        h += dot4I8Packed(word, k + 7u);
        word += 0x01010101u;
    }
    out[id.x] = a + b + c + d + e + f + g + h;
}
