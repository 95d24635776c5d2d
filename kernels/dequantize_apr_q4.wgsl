// Weights in aprender's int4: 32 columns in 18 bytes.
//
// Equation: value = d * (q - 8).
// Planes:   q, 16 bytes, byte j with column 2 * j in its low nibble and column 2 * j + 1 in its high one; d, f16.
// Unit:     a block: one vec4 of q, one d.
// CPU twin: src/quant/apr_q4.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let q = quants[unit];
    let d = half_at(4u * p.blocks, unit);
    let first = vec4(apart(q.xy & vec2(0xffffu)), apart(q.xy >> vec2(16u))).xzyw;
    let second = vec4(apart(q.zw & vec2(0xffffu)), apart(q.zw >> vec2(16u))).xzyw;
    return Levels(less(first, 8u), less(second, 8u), vec2(d), vec2(0.0));
}

// The four nibbles of sixteen bits, one to a byte.
fn apart(shorts: vec2<u32>) -> vec2<u32> {
    let bytes = (shorts | (shorts << vec2(8u))) & vec2(0x00ff00ffu);
    return (bytes | (bytes << vec2(4u))) & vec2(0x0f0f0f0fu);
}
