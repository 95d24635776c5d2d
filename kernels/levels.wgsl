// How a quantised encoding is read: 32 levels as signed bytes, a scale and an offset for each half of them.
//
// Equation:  value[c] = scale[c / 16] * level[c] + offset[c / 16], c = 0..32; the offset only where OFFSETS says so.
// Unit:      32 consecutive columns of one row; unit = row * (columns / 32) + column / 32 within the shard.
// Needs:     of the operation `quants: array<vec4<u32>>` and `fields: array<u32>`, the same shard of planes twice, and
//            `p.blocks`, the number of blocks in it; of dequantize_<dtype>.wgsl `levels`, OFFSETS and HALVES, which
//            says whether the halves have scales of their own. The encodings with a code book also need
//            `grids: array<u32>`. Planes are told in src/engine/wgpu/planes.rs.
// Exactness: scale * level has at most 24 significant bits in every encoding but APR_Q8 (which has no offset), so a
//            value rounds once, fused or not, and equals the codec's. A subnormal value or scale may be read as zero.
// CPU twin:  src/quant/<dtype>.rs. Contract: contracts/kernels/dequantize.yaml.

struct Levels {
    first: vec4<u32>,   // columns 0..16 in ascending order, four signed bytes to a word
    second: vec4<u32>,  // columns 16..32
    scale: vec2<f32>,   // of columns 0..16 and 16..32, the same where HALVES is false
    offset: vec2<f32>,  // likewise; zero where OFFSETS is false
}

// The 32 values of a unit in ascending order of columns.
fn values(unit: u32) -> array<vec4<f32>, 8> {
    let l = levels(unit);
    return array<vec4<f32>, 8>(
        four(l.first.x, l.scale.x, l.offset.x),
        four(l.first.y, l.scale.x, l.offset.x),
        four(l.first.z, l.scale.x, l.offset.x),
        four(l.first.w, l.scale.x, l.offset.x),
        four(l.second.x, l.scale.y, l.offset.y),
        four(l.second.y, l.scale.y, l.offset.y),
        four(l.second.z, l.scale.y, l.offset.y),
        four(l.second.w, l.scale.y, l.offset.y),
    );
}

fn four(word: u32, scale: f32, offset: f32) -> vec4<f32> {
    let level = vec4<f32>(unpack4xI8(word));
    if OFFSETS {
        return fma(vec4(scale), level, vec4(offset));
    }
    return scale * level;
}

// ---- planes: `plane` is the word at which one starts

// The words of a plane, padded so that the next one starts at a multiple of 16 bytes.
fn padded(words: u32) -> u32 {
    return (words + 3u) & ~3u;
}

// 16-bit element `index` of a plane, in the lower half; the upper half is whatever follows.
fn short_at(plane: u32, index: u32) -> u32 {
    return fields[plane + index / 2u] >> (16u * (index & 1u));
}

fn half_at(plane: u32, index: u32) -> f32 {
    return unpack2x16float(short_at(plane, index)).x;
}

fn byte_at(plane: u32, index: u32) -> u32 {
    return (fields[plane + index / 4u] >> (8u * (index & 3u))) & 255u;
}

// ---- bytes side by side: no sum or product below carries from one byte into the next

fn nibbles(words: vec4<u32>, shift: u32) -> vec4<u32> {
    return (words >> vec4(shift)) & vec4(0x0f0f0f0fu);
}

fn bit_pairs(words: vec4<u32>, shift: u32) -> vec4<u32> {
    return (words >> vec4(shift)) & vec4(0x03030303u);
}

fn single_bits(words: vec4<u32>, shift: u32) -> vec4<u32> {
    return (words >> vec4(shift)) & vec4(0x01010101u);
}

// Bytes 0..128 less `k` in 0..=128, as signed bytes; the top bit lends and is taken back.
fn less(words: vec4<u32>, k: u32) -> vec4<u32> {
    let top = vec4(0x80808080u);
    return ((words | top) - vec4(k * 0x01010101u)) ^ top;
}

// Bits 0..4 as four bytes 0 or 1: the factor brings bit i to place 8 * i.
fn spread(bits: u32) -> u32 {
    return ((bits & 15u) * 0x00204081u) & 0x01010101u;
}

// Bits 0..16 as sixteen bytes 0 or 1.
fn spread_16(bits: u32) -> vec4<u32> {
    return vec4(spread(bits), spread(bits >> 4u), spread(bits >> 8u), spread(bits >> 12u));
}

// ---- shared by several encodings

// Q4_K and Q5_K: scale and offset of sub-block `j` (0..8) from d, dmin (both f16 in `header.x`) and twelve bytes of six-bit
// numbers. Sub-blocks 0..4 have theirs in the low bits of bytes j and j + 4; the top two bits of those bytes,
// with the nibbles of bytes 8..12, make up sub-blocks 4..8.
fn k_scale_and_offset(header: vec4<u32>, j: u32) -> vec2<f32> {
    let bytes = (header.yzw >> vec3(8u * (j & 3u))) & vec3(255u);
    let early = bytes.xy & vec2(63u);
    let late = vec2(bytes.z & 15u, bytes.z >> 4u) | ((bytes.xy >> vec2(6u)) << vec2(4u));
    let d = unpack2x16float(header.x);
    return vec2(d.x, -d.y) * vec2<f32>(select(late, early, j < 4u));
}

// Codes 0..16, one to a byte, looked up in a code book of sixteen bytes.
fn sixteen(codes: vec4<u32>, book: vec4<u32>) -> vec4<u32> {
    var out = vec4(0u);
    for (var shift = 0u; shift < 32u; shift += 8u) {
        let code = codes >> vec4(shift);
        let odd = (code & vec4(4u)) != vec4(0u);
        let low = select(vec4(book.x), vec4(book.y), odd);
        let high = select(vec4(book.z), vec4(book.w), odd);
        let word = select(low, high, (code & vec4(8u)) != vec4(0u));
        out |= ((word >> ((code & vec4(3u)) << vec4(3u))) & vec4(255u)) << vec4(shift);
    }
    return out;
}

// Eight signs of which seven are stored: the eighth makes the number of negative ones even.
fn even_signs(seven: u32) -> u32 {
    let stored = seven & 127u;
    return stored | ((countOneBits(stored) & 1u) << 7u);
}

// Eight magnitudes (1..128), negated where bit i of `signs` is set.
fn signed_eight(magnitudes: vec2<u32>, signs: u32) -> vec2<u32> {
    let negative = vec2(spread(signs), spread(signs >> 4u));
    return (magnitudes ^ (negative * 255u)) + negative;
}

// IQ1: eight elements -1, 0 or 1, moved by an eighth down where `negative` is 1 and up where it is 0, in eighths.
fn eighths(elements: vec2<u32>, negative: u32) -> vec2<u32> {
    let codes = (elements ^ vec2(0x80808080u)) - vec2(0x7f7f7f7fu);
    let top = vec2(0x80808080u);
    return (((codes << vec2(3u)) | top) - vec2((7u + 2u * negative) * 0x01010101u)) ^ top;
}
