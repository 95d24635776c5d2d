// Weights in Q6_K: 256 columns in 210 bytes, sixteen sub-blocks of 16.
//
// Equation: value = d * scale * (q - 32).
// Planes:   the low four bits of q, 128 bytes; its high two, 64 bytes; 16 signed scales; d, f16. Each half of 128 columns
//           has 64 low bytes and 32 high ones: of quarter k the low bits are nibble k / 2 of bytes 32 * (k % 2) .., the
//           high ones bit pair k of all.
// Unit:     two sub-blocks, a quarter: two vec4 of low bits, two of high ones, two scales, one d.
// CPU twin: src/quant/q6_k.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = true;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let half = (unit / 4u) & 1u;
    let quarter = unit & 3u;
    let low = 8u * block + 4u * half + 2u * (quarter & 1u);
    let low_shift = 4u * (quarter / 2u);
    let high = 8u * p.blocks + 4u * block + 2u * half;
    let high_shift = 2u * quarter;
    let scales = vec2<f32>(unpack4xI8(short_at(48u * p.blocks, unit)).xy);
    let d = half_at(52u * p.blocks, block);
    let first = nibbles(quants[low], low_shift) | (bit_pairs(quants[high], high_shift) << vec4(4u));
    let second = nibbles(quants[low + 1u], low_shift) | (bit_pairs(quants[high + 1u], high_shift) << vec4(4u));
    return Levels(less(first, 32u), less(second, 32u), d * scales, vec2(0.0));
}
