// Weights in Q3_K: 256 columns in 110 bytes, sixteen sub-blocks of 16.
//
// Equation: value = d * (scale - 32) * (q - 4).
// Planes:   the low two bits of q, 64 bytes in Q2_K's order; third bits, 32 bytes, bit k of byte l is column 32 * k + l;
//           12 bytes of sixteen six-bit scales; d, f16.
// Unit:     two sub-blocks: two vec4 of low bits, two of third bits, three words of scales, one d.
// CPU twin: src/quant/q3_k.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = true;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let part = unit & 7u;
    let low = 4u * block + 2u * (part / 4u);
    let shift = 2u * (part & 3u);
    let third = 4u * p.blocks + 2u * block;
    let first = bit_pairs(quants[low], shift) | (single_bits(quants[third], part) << vec4(2u));
    let second = bit_pairs(quants[low + 1u], shift) | (single_bits(quants[third + 1u], part) << vec4(2u));

    // Of scale n the low four bits are nibble n / 8 of byte n % 8, the high two bit pair n / 4 of byte 8 + n % 4. The two
    // scales of a unit lie in neighbouring bytes.
    let scales = 24u * p.blocks + 3u * block;
    let pair = 16u * (part & 1u);
    let four_bits = fields[scales + ((part / 2u) & 1u)] >> (pair + 4u * (part / 4u));
    let two_bits = fields[scales + 2u] >> (pair + 2u * (part / 2u));
    let both = (four_bits & 0x0f0fu) | ((two_bits & 0x0303u) << 4u);
    let scale = vec2<f32>(vec2(both & 255u, both >> 8u)) - vec2(32.0);

    let d = half_at(24u * p.blocks + padded(3u * p.blocks), block);
    return Levels(less(first, 4u), less(second, 4u), d * scale, vec2(0.0));
}
