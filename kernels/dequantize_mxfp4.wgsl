// Weights in MXFP4: 32 columns in 17 bytes.
//
// Equation: value = 2^(e - 128) * book[q].
// Planes:   q, 16 bytes in Q4_0's order; e, a byte. Code book: sixteen signed bytes, twice the values of the 4-bit floats.
// Unit:     a block: one vec4 of q, one byte; the code book.
// CPU twin: src/quant/mxfp4.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let q = quants[unit];
    let book = vec4(grids[0], grids[1], grids[2], grids[3]);
    let e = byte_at(4u * p.blocks, unit);
    // The two lowest powers are subnormal.
    let scale = bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << e, e < 2u));
    return Levels(sixteen(nibbles(q, 0u), book), sixteen(nibbles(q, 4u), book), vec2(scale), vec2(0.0));
}
