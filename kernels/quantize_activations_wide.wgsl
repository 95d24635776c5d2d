// Activations as 16-bit integers in blocks of 32, for products with weights in blocks.
//
// Equation:  d = max |x| / 32512; q[k] = round(x[k] * (32512 / max |x|)), ties to even; q = 256 high + low.
//            Where max |x| < 1e-30, d and all q are 0; where an x is NaN or infinite, d is NaN.
// Contract:  contracts/kernels/quantize_activations_wide.yaml. CPU twin: src/engine/cpu/quantized.rs, in eight bits.
// x    [n, x_stride] f32; columns past the width are 0
// out  [n, units, 5] vec4: 32 high bytes, 32 low bytes (both signed, four to a word in ascending order), then d and d
//      times the sum of the first 16 q, of the last 16, and of all (f32)
// Workgroup (64): a thread takes a block, of which it needs the maximum first; blocks are few, and 64 is a wave of any GPU.

struct Params {
    units: u32, // blocks of a token
    n: u32,
    x_stride: u32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;

// 127 * 256: the largest magnitude whose high byte, rounded to nearest, is one.
const LARGEST: f32 = 32512.0;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let block = (group.y * groups.x + group.x) * 64u + local;
    if block >= p.n * p.units {
        return;
    }
    let start = ((block / p.units) * p.x_stride + (block % p.units) * 32u) / 4u;
    // Magnitudes are ordered as their bits are, NaN above infinity above all numbers.
    var most = vec4(0u);
    for (var i = 0u; i < 8u; i++) {
        most = max(most, bitcast<vec4<u32>>(x[start + i]) & vec4(0x7fffffffu));
    }
    let bits = max(max(most.x, most.y), max(most.z, most.w));
    let largest = bitcast<f32>(min(bits, 0x7f7fffffu));
    let small = largest < 1e-30;
    let inverse = select(LARGEST / largest, 0.0, small);
    let d = select(largest / LARGEST, 0.0, small);
    let is_number = bits < 0x7f800000u;

    var high: array<u32, 8>;
    var low: array<u32, 8>;
    var sums = vec2(0i);
    for (var i = 0u; i < 8u; i++) {
        let q = vec4<i32>(round(clamp(x[start + i] * inverse, vec4(-LARGEST), vec4(LARGEST))));
        let h = (q + vec4(128i)) >> vec4(8u);
        high[i] = packed(h);
        low[i] = packed(q - (h << vec4(8u)));
        let sum = q.x + q.y + q.z + q.w;
        sums += select(vec2(0i, sum), vec2(sum, 0i), i < 4u);
    }
    let to = 5u * block;
    out[to] = vec4(high[0], high[1], high[2], high[3]);
    out[to + 1u] = vec4(high[4], high[5], high[6], high[7]);
    out[to + 2u] = vec4(low[0], low[1], low[2], low[3]);
    out[to + 3u] = vec4(low[4], low[5], low[6], low[7]);
    let tail = bitcast<vec4<u32>>(d * vec4(1.0, vec3<f32>(vec3(sums, sums.x + sums.y))));
    // NaN by its bits: a driver may assume that arithmetic makes none.
    out[to + 4u] = select(vec4(0x7fc00000u), tail, is_number);
}

// The low bytes of four numbers.
fn packed(q: vec4<i32>) -> u32 {
    let b = bitcast<vec4<u32>>(q) & vec4(255u);
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}
