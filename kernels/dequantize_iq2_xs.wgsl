// Weights in IQ2_XS: 256 columns in 74 bytes, sixteen sub-blocks of 16.
//
// Equation: value = +-d * (scale + 0.5) / 4 * book[index][c].
// Planes:   32 times 16 bits, nine of an index of eight magnitudes and seven signs; 8 bytes of four-bit scales; d, f16.
//           Code book: 512 times two words, eight magnitudes.
// Unit:     two sub-blocks: two words of indexes and signs, one byte of scales, one d; four entries of the code book.
// CPU twin: src/quant/iq2_xs.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = true;

fn levels(unit: u32) -> Levels {
    let packed = byte_at(16u * p.blocks, unit);
    let d = half_at(16u * p.blocks + padded(2u * p.blocks), unit / 8u);
    let scale = d * (0.5 + vec2<f32>(vec2(packed & 15u, packed >> 4u))) * 0.25;
    var out: array<vec2<u32>, 4>;
    for (var l = 0u; l < 4u; l++) {
        let q = (fields[2u * unit + l / 2u] >> (16u * (l & 1u))) & 0xffffu;
        let entry = 2u * (q & 511u);
        out[l] = signed_eight(vec2(grids[entry], grids[entry + 1u]), even_signs(q >> 9u));
    }
    return Levels(vec4(out[0], out[1]), vec4(out[2], out[3]), scale, vec2(0.0));
}
