// Weights in Q2_K: 256 columns in 84 bytes, sixteen sub-blocks of 16.
//
// Equation: value = d * scale * q - dmin * min.
// Planes:   q, 64 bytes, each half of 128 columns has 32 bytes, of which bit pair k is its quarter k; 16 bytes of scale
//           (low nibble) and minimum (high nibble); d, dmin, two f16.
// Unit:     two sub-blocks, a quarter: two vec4 of q (shared by four units), two bytes of scales, one word of d, dmin.
// CPU twin: src/quant/q2_k.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = true;
const HALVES = true;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let q = 4u * block + 2u * ((unit / 4u) & 1u);
    let shift = 2u * (unit & 3u);
    let packed = (vec2(short_at(16u * p.blocks, unit)) >> vec2(0u, 8u)) & vec2(255u);
    let d = unpack2x16float(fields[20u * p.blocks + block]);
    let scale = d.x * vec2<f32>(packed & vec2(15u));
    let offset = -d.y * vec2<f32>(packed >> vec2(4u));
    return Levels(bit_pairs(quants[q], shift), bit_pairs(quants[q + 1u], shift), scale, offset);
}
