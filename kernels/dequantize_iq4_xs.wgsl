// Weights in IQ4_XS: 256 columns in 136 bytes, eight sub-blocks of 32.
//
// Equation: value = d * (scale - 32) * book[q].
// Planes:   q, 128 bytes, 16 for each sub-block in Q4_0's order; d, f16, with 16 bits of eight high bit pairs of scales
//           and four bytes of eight low nibbles. Code book: IQ4_NL's.
// Unit:     a sub-block: one vec4 of q, two words of d and scales; the code book.
// CPU twin: src/quant/iq4_xs.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let j = unit & 7u;
    let header = 32u * p.blocks + 2u * (unit / 8u);
    let d = unpack2x16float(fields[header]).x;
    let high = (fields[header] >> (16u + 2u * j)) & 3u;
    let low = (fields[header + 1u] >> (4u * j)) & 15u;
    let scale = d * (f32(low | (high << 4u)) - 32.0);
    let q = quants[unit];
    let book = vec4(grids[0], grids[1], grids[2], grids[3]);
    return Levels(sixteen(nibbles(q, 0u), book), sixteen(nibbles(q, 4u), book), vec2(scale), vec2(0.0));
}
