// Weights in IQ2_S: 256 columns in 82 bytes, sixteen sub-blocks of 16.
//
// Equation: value = +-d * (scale + 0.5) / 4 * book[index][c].
// Planes:   the low eight bits of 32 indexes of eight magnitudes; 32 bytes of signs; 8 bytes of two high bits each; 8
//           bytes of four-bit scales; d, f16. Code book: 1024 times two words, eight magnitudes.
// Unit:     two sub-blocks: one word of indexes, one of signs, one byte of high bits, one of scales, one d; four entries
//           of the code book.
// CPU twin: src/quant/iq2_s.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = true;

fn levels(unit: u32) -> Levels {
    let low = fields[unit];
    let signs = fields[8u * p.blocks + unit];
    let high = byte_at(16u * p.blocks, unit);
    let scales = 16u * p.blocks + padded(2u * p.blocks);
    let packed = byte_at(scales, unit);
    let d = half_at(scales + padded(2u * p.blocks), unit / 8u);
    let scale = d * (0.5 + vec2<f32>(vec2(packed & 15u, packed >> 4u))) * 0.25;
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let index = ((low >> (8u * l)) & 255u) | (((high >> (2u * l)) & 3u) << 8u);
        out[l] = signed_eight(vec2(grids[2u * index], grids[2u * index + 1u]), signs >> (8u * l));
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), scale, vec2(0.0));
}
