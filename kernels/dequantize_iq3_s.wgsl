// Weights in IQ3_S: 256 columns in 110 bytes, eight sub-blocks of 32.
//
// Equation: value = +-d * (2 * scale + 1) * book[index][c].
// Planes:   the low eight bits of 64 indexes of four magnitudes; 32 bytes of signs; 8 bytes of ninth bits; 4 bytes of
//           four-bit scales; d, f16. Code book: 512 words of four magnitudes.
// Unit:     a sub-block: two words of indexes, one of signs, one byte of ninth bits, one nibble, one d; eight entries of
//           the code book.
// CPU twin: src/quant/iq3_s.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let signs = fields[16u * p.blocks + unit];
    let ninth = byte_at(24u * p.blocks, unit);
    let scales = 24u * p.blocks + padded(2u * p.blocks);
    let nibble = (byte_at(scales, unit / 2u) >> (4u * (unit & 1u))) & 15u;
    let d = half_at(scales + padded(p.blocks), unit / 8u);
    let scale = d * f32(1u + 2u * nibble);
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let low = fields[2u * unit + l / 2u] >> (16u * (l & 1u));
        let high = (ninth >> (2u * l)) << 8u;
        let magnitudes = vec2(
            grids[(low & 255u) | (high & 256u)],
            grids[((low >> 8u) & 255u) | ((high >> 1u) & 256u)],
        );
        out[l] = signed_eight(magnitudes, signs >> (8u * l));
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), vec2(scale), vec2(0.0));
}
