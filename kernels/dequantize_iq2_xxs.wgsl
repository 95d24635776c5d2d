// Weights in IQ2_XXS: 256 columns in 66 bytes, eight sub-blocks of 32.
//
// Equation: value = +-d * (scale + 0.5) / 4 * book[index][c].
// Planes:   for each sub-block a word of four indexes of eight magnitudes and one of four times seven signs and on top
//           the four-bit scale; d, f16. Code book: 256 times two words, eight magnitudes.
// Unit:     a sub-block: two words, one d; four entries of the code book.
// CPU twin: src/quant/iq2_xxs.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let indexes = fields[2u * unit];
    let word = fields[2u * unit + 1u];
    let d = half_at(16u * p.blocks, unit / 8u);
    let scale = d * (0.5 + f32(word >> 28u)) * 0.25;
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let entry = 2u * ((indexes >> (8u * l)) & 255u);
        out[l] = signed_eight(vec2(grids[entry], grids[entry + 1u]), even_signs(word >> (7u * l)));
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), vec2(scale), vec2(0.0));
}
