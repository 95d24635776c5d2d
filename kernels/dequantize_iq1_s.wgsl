// Weights in IQ1_S: 256 columns in 50 bytes, eight sub-blocks of 32.
//
// Equation: value = d * (2 * scale + 1) / 8 * (8 * book[index][c] +- 1).
// Planes:   the low eight bits of 32 indexes of eight elements; for each sub-block 16 bits: four times three high bits,
//           the three-bit scale, on top the sign of the shift; d, f16. Code book: 2048 times two words, eight of -1, 0, 1.
// Unit:     a sub-block: one word of indexes, half a word of the rest, one d; four entries of the code book.
// CPU twin: src/quant/iq1_s.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let low = fields[unit];
    let word = short_at(8u * p.blocks, unit) & 0xffffu;
    let d = half_at(8u * p.blocks + padded(4u * p.blocks), unit / 8u);
    let scale = d * f32(2u * ((word >> 12u) & 7u) + 1u) * 0.125;
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let index = ((low >> (8u * l)) & 255u) | (((word >> (3u * l)) & 7u) << 8u);
        out[l] = eighths(vec2(grids[2u * index], grids[2u * index + 1u]), word >> 15u);
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), vec2(scale), vec2(0.0));
}
