// Activations in f16, scaled by a power of two for each token, so that none is too large for f16 and few are too small:
// q[t, k] = f16(x[t, k] / d[t]), d[t] = 2^(floor(log2(max_k |x[t, k]|)) - 14).
//
// Contract: contracts/kernels/matmul_half.yaml.
// x    [n, x_stride] f32; columns past the width are 0
// out  [n, 4 * units + 1] vectors: the numbers of 32 columns to four of them, two to a word, and d in the last one
// Workgroup (256): one token. Its threads look for the largest magnitude together, then each writes every 256th vector.
// What is not finite stays so: d is 1 then.

struct Params {
    units: u32,
    x_stride: u32, // vectors
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;

var<workgroup> largest: array<u32, 256>;

// The magnitudes of f32, and NaN above them all, are in the order of their bits.
fn magnitude(v: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(v) & vec4(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.x;
    let row = token * p.x_stride;
    var most = 0u;
    for (var i = lane; i < p.units * 8u; i += 256u) {
        most = max(most, magnitude(x[row + i]));
    }
    largest[lane] = most;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (lane < half) {
            largest[lane] = max(largest[lane], largest[lane + half]);
        }
        workgroupBarrier();
    }
    // The exponent of the largest one, as f32 holds it. Below 30 the inverse of d would be too large, and 255 is not finite.
    let exponent = max(largest[0] >> 23u, 30u);
    let finite = exponent < 255u && largest[0] != 0u;
    let scale = select(1.0, bitcast<f32>((exponent - 14u) << 23u), finite);
    let inverse = select(1.0, bitcast<f32>((268u - exponent) << 23u), finite);
    let base = token * (p.units * 4u + 1u);
    for (var i = lane; i < p.units * 4u; i += 256u) {
        let low = inverse * x[row + 2u * i];
        let high = inverse * x[row + 2u * i + 1u];
        out[base + i] = vec4(
            pack2x16float(low.xy), pack2x16float(low.zw),
            pack2x16float(high.xy), pack2x16float(high.zw),
        );
    }
    if (lane == 0u) {
        out[base + p.units * 4u] = vec4(bitcast<u32>(scale), 0u, 0u, 0u);
    }
}
