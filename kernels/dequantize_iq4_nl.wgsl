// Weights in IQ4_NL: 32 columns in 18 bytes.
//
// Equation: value = d * book[q].
// Planes:   q, 16 bytes in Q4_0's order; d, f16. Code book: sixteen signed bytes.
// Unit:     a block: one vec4 of q, one d; the code book.
// CPU twin: src/quant/iq4_nl.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let q = quants[unit];
    let book = vec4(grids[0], grids[1], grids[2], grids[3]);
    let d = half_at(4u * p.blocks, unit);
    return Levels(sixteen(nibbles(q, 0u), book), sixteen(nibbles(q, 4u), book), vec2(d), vec2(0.0));
}
