// Weights in IQ3_XXS: 256 columns in 98 bytes, eight sub-blocks of 32.
//
// Equation: value = +-d * (scale + 0.5) / 2 * book[index][c].
// Planes:   64 indexes of four magnitudes, a byte each; for each sub-block a word of four times seven signs of eight
//           columns and on top the four-bit scale; d, f16. Code book: 256 words of four magnitudes.
// Unit:     a sub-block: two words of indexes, one of signs and scale, one d; eight entries of the code book.
// CPU twin: src/quant/iq3_xxs.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let word = fields[16u * p.blocks + unit];
    let d = half_at(24u * p.blocks, unit / 8u);
    let scale = d * (0.5 + f32(word >> 28u)) * 0.5;
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let indexes = fields[2u * unit + l / 2u] >> (16u * (l & 1u));
        let magnitudes = vec2(grids[indexes & 255u], grids[(indexes >> 8u) & 255u]);
        out[l] = signed_eight(magnitudes, even_signs(word >> (7u * l)));
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), vec2(scale), vec2(0.0));
}
