// Weights in IQ1_M: 256 columns in 56 bytes, sixteen sub-blocks of 16.
//
// Equation: value = d * (2 * scale + 1) / 8 * (8 * book[index][c] +- 1).
// Planes:   the low eight bits of 32 indexes of eight elements; 16 bytes of two nibbles, three high bits and the sign of the
//           shift; four times 16 bits: four three-bit scales, on top a nibble of the f16 d. Code book: IQ1_S's.
// Unit:     two sub-blocks: one word of indexes, half a word of nibbles, two words of scales and d; four entries of the
//           code book.
// CPU twin: src/quant/iq1_m.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = true;

fn levels(unit: u32) -> Levels {
    let low = fields[unit];
    let nibbles = short_at(8u * p.blocks, unit);
    let words = 12u * p.blocks + 2u * (unit / 8u);
    let tops = (vec2(fields[words], fields[words + 1u]) >> vec2(12u)) & vec2(0x000f000fu);
    let bits = (tops | (tops >> vec2(12u))) & vec2(255u);
    let d = unpack2x16float(bits.x | (bits.y << 8u)).x;
    let packed = short_at(words, (unit / 2u) & 3u) >> (6u * (unit & 1u));
    let scale = d * vec2<f32>(2u * vec2(packed & 7u, (packed >> 3u) & 7u) + 1u) * 0.125;
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let nibble = nibbles >> (4u * l);
        let index = ((low >> (8u * l)) & 255u) | ((nibble & 7u) << 8u);
        out[l] = eighths(vec2(grids[2u * index], grids[2u * index + 1u]), (nibble >> 3u) & 1u);
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), scale, vec2(0.0));
}
