// Weights in TQ1_0: 256 ternary columns in 54 bytes, five to a byte.
//
// Equation: value = d * (q - 1).
// Planes:   48 bytes of five q, 4 bytes of four, d, f16. A byte is the fraction of 256 that its q spell in base 3, the
//           first one first. Digit k of bytes 0..32 stands at columns 32 * k .., of bytes 32..48 at 160 + 16 * k .., of the
//           last four at 240 + 4 * k ...
// Unit:     one or two vec4, or one vec4 and the last word; one d.
// CPU twin: src/quant/tq1_0.rs. Contract: contracts/kernels/dequantize.yaml.

const OFFSETS = false;
const HALVES = false;

fn levels(unit: u32) -> Levels {
    let block = unit / 8u;
    let part = unit & 7u;
    let d = half_at(12u * p.blocks + padded(p.blocks), block);
    var first: vec4<u32>;
    var second: vec4<u32>;
    if part < 5u {
        let power = vec4(power_of_three(part));
        first = digits(quants[3u * block], power);
        second = digits(quants[3u * block + 1u], power);
    } else {
        let bytes = quants[3u * block + 2u];
        let k = 2u * part - 10u;
        first = digits(bytes, vec4(power_of_three(k)));
        if part < 7u {
            second = digits(bytes, vec4(power_of_three(k + 1u)));
        } else {
            second = digits(vec4(fields[12u * p.blocks + block]), vec4(1u, 3u, 9u, 27u));
        }
    }
    return Levels(less(first, 1u), less(second, 1u), vec2(d), vec2(0.0));
}

// 3^k for k in 0..5.
fn power_of_three(k: u32) -> u32 {
    return select(1u, 3u, (k & 1u) != 0u) * select(1u, 9u, (k & 2u) != 0u) * select(1u, 81u, (k & 4u) != 0u);
}

// Of every byte the digit that `power` shifts to the front: what it carries out when multiplied by 3. Even and odd bytes
// are worked on apart, with sixteen bits for each.
fn digits(words: vec4<u32>, power: vec4<u32>) -> vec4<u32> {
    let bytes = vec4(0x00ff00ffu);
    let even = (((words & bytes) * power) & bytes) * 3u;
    let odd = ((((words >> vec4(8u)) & bytes) * power) & bytes) * 3u;
    return ((even >> vec4(8u)) & vec4(0x00030003u)) | (odd & vec4(0x03000300u));
}
