//! Blocks of weights decoded into lanes, with exactly the products and sums of `quant`, so that the values are
//! the same bits.

use super::lanes::Lanes;
use crate::tensor::DType;

/// An encoding whose blocks are decoded in registers.
pub(super) trait Encoding {
    /// Elements of a block, a multiple of 16.
    const LEN: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Shows `v` the elements `16 i .. 16 i + 16` for `i` in ascending order.
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>);
}

/// Takes decoded elements. (A closure would be compiled without the instruction set.)
pub(super) trait Visitor<L> {
    /// Must be `#[inline(always)]`.
    fn take(&mut self, i: usize, elements: L);
}

/// A computation over some encoding.
pub(super) trait WithEncoding {
    type Output;
    fn run<E: Encoding>(self) -> Self::Output;
}

/// Whether [`dispatch`] knows `dtype`; the rest is decoded row by row through its codec.
pub(super) fn is_fast(dtype: DType) -> bool {
    struct Nothing;
    impl WithEncoding for Nothing {
        type Output = ();
        fn run<E: Encoding>(self) {}
    }
    dispatch(dtype, Nothing).is_some()
}

/// Runs `work` for `dtype`, or returns `None` where no fast decoder exists.
#[inline(always)]
pub(super) fn dispatch<W: WithEncoding>(dtype: DType, work: W) -> Option<W::Output> {
    match dtype {
        DType::F32 => Some(work.run::<F32>()),
        DType::F16 => Some(work.run::<F16>()),
        DType::BF16 => Some(work.run::<Bf16>()),
        DType::Q4_0 => Some(work.run::<Q4_0>()),
        DType::Q4_1 => Some(work.run::<Q4_1>()),
        DType::Q5_0 => Some(work.run::<Q5_0>()),
        DType::Q5_1 => Some(work.run::<Q5_1>()),
        DType::Q8_0 => Some(work.run::<Q8_0>()),
        DType::Q4_K => Some(work.run::<Q4K>()),
        DType::Q5_K => Some(work.run::<Q5K>()),
        DType::Q6_K => Some(work.run::<Q6K>()),
        DType::Q2_K | DType::Q3_K | DType::AprQ4 | DType::AprQ8 | DType::F64 => None,
        DType::IQ1_S | DType::IQ1_M | DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => None,
        DType::IQ3_XXS | DType::IQ3_S | DType::IQ4_NL | DType::IQ4_XS => None,
        DType::TQ1_0 | DType::TQ2_0 | DType::MXFP4 => None,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => None,
    }
}

struct F32;
struct F16;
struct Bf16;
#[allow(non_camel_case_types)] // the field's own spelling
struct Q4_0;
#[allow(non_camel_case_types)]
struct Q4_1;
#[allow(non_camel_case_types)]
struct Q5_0;
#[allow(non_camel_case_types)]
struct Q5_1;
#[allow(non_camel_case_types)]
struct Q8_0;
struct Q4K;
struct Q5K;
struct Q6K;

impl Encoding for F32 {
    const LEN: usize = 16;
    const BYTES: usize = 64;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        v.take(0, L::from_f32(at(block, 0)));
    }
}

impl Encoding for F16 {
    const LEN: usize = 16;
    const BYTES: usize = 32;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        v.take(0, L::from_f16(at(block, 0)));
    }
}

impl Encoding for Bf16 {
    const LEN: usize = 16;
    const BYTES: usize = 32;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        v.take(0, L::from_bf16(at(block, 0)));
    }
}

impl Encoding for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let d = half::<L>(block, 0);
        v.take(0, L::from_i8(at(block, 2)).mul(d));
        v.take(1, L::from_i8(at(block, 18)).mul(d));
    }
}

impl Encoding for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let (d, eight) = (half::<L>(block, 0), L::splat(8.0));
        let q = at::<16>(block, 2);
        v.take(0, L::from_u8(&low(q)).sub(eight).mul(d));
        v.take(1, L::from_u8(&high(q)).sub(eight).mul(d));
    }
}

impl Encoding for Q4_1 {
    const LEN: usize = 32;
    const BYTES: usize = 20;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let (d, m) = (half::<L>(block, 0), half::<L>(block, 2));
        let q = at::<16>(block, 4);
        v.take(0, L::from_u8(&low(q)).mul(d).add(m));
        v.take(1, L::from_u8(&high(q)).mul(d).add(m));
    }
}

impl Encoding for Q5_0 {
    const LEN: usize = 32;
    const BYTES: usize = 22;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let (d, sixteen) = (half::<L>(block, 0), L::splat(16.0));
        let fifth = u32::from_le_bytes(*at(block, 2));
        let q = at::<16>(block, 6);
        v.take(0, L::from_u8(&with_fifth(low(q), fifth)).sub(sixteen).mul(d));
        v.take(1, L::from_u8(&with_fifth(high(q), fifth >> 16)).sub(sixteen).mul(d));
    }
}

impl Encoding for Q5_1 {
    const LEN: usize = 32;
    const BYTES: usize = 24;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let (d, m) = (half::<L>(block, 0), half::<L>(block, 2));
        let fifth = u32::from_le_bytes(*at(block, 4));
        let q = at::<16>(block, 8);
        v.take(0, L::from_u8(&with_fifth(low(q), fifth)).mul(d).add(m));
        v.take(1, L::from_u8(&with_fifth(high(q), fifth >> 16)).mul(d).add(m));
    }
}

impl Encoding for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = 144;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let scales = KScales::read::<L>(block);
        // Sub-blocks 2p and 2p + 1 are the low and high nibbles of 32 bytes.
        for p in 0..4 {
            for nibble in 0..2 {
                let (d, m) = scales.of::<L>(2 * p + nibble);
                for side in 0..2 {
                    let q = at::<16>(block, 16 + 32 * p + 16 * side);
                    let q = if nibble == 0 { low(q) } else { high(q) };
                    v.take(4 * p + 2 * nibble + side, L::from_u8(&q).mul(d).sub(m));
                }
            }
        }
    }
}

impl Encoding for Q5K {
    const LEN: usize = 256;
    const BYTES: usize = 176;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let scales = KScales::read::<L>(block);
        for p in 0..4 {
            for nibble in 0..2 {
                let (d, m) = scales.of::<L>(2 * p + nibble);
                for side in 0..2 {
                    let (fifth, q) =
                        (at::<16>(block, 16 + 16 * side), at::<16>(block, 48 + 32 * p + 16 * side));
                    let q = if nibble == 0 { low(q) } else { high(q) };
                    let bit = 2 * p + nibble;
                    let mut five = [0; 16];
                    for l in 0..16 {
                        five[l] = q[l] | (fifth[l] >> bit & 1) << 4;
                    }
                    v.take(4 * p + 2 * nibble + side, L::from_u8(&five).mul(d).sub(m));
                }
            }
        }
    }
}

impl Encoding for Q6K {
    const LEN: usize = 256;
    const BYTES: usize = 210;

    #[inline(always)]
    fn each<L: Lanes>(block: &[u8], v: &mut impl Visitor<L>) {
        let (d, bias) = (L::half(u16::from_le_bytes(*at(block, 208))), L::splat(32.0));
        let scales = at::<16>(block, 192);
        for (n, scale) in scales.iter().enumerate() {
            let (half, quarter, side) = (n / 8, n / 2 % 4, n % 2 * 16);
            let nibbles = at::<16>(block, half * 64 + quarter % 2 * 32 + side);
            let pairs = at::<16>(block, 128 + half * 32 + side);
            let nibbles = if quarter < 2 { low(nibbles) } else { high(nibbles) };
            let mut q = [0; 16];
            for l in 0..16 {
                q[l] = nibbles[l] | (pairs[l] >> (2 * quarter) & 3) << 4;
            }
            v.take(n, L::from_u8(&q).sub(bias).mul(L::splat(d * f32::from(*scale as i8))));
        }
    }
}

/// `N` bytes at `offset`.
#[inline(always)]
fn at<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    block[offset..offset + N].try_into().expect("the range has N bytes")
}

#[inline(always)]
fn half<L: Lanes>(block: &[u8], offset: usize) -> L {
    L::splat_half(u16::from_le_bytes(*at(block, offset)))
}

#[inline(always)]
fn low(q: &[u8; 16]) -> [u8; 16] {
    let mut out = [0; 16];
    for l in 0..16 {
        out[l] = q[l] & 0x0f;
    }
    out
}

#[inline(always)]
fn high(q: &[u8; 16]) -> [u8; 16] {
    let mut out = [0; 16];
    for l in 0..16 {
        out[l] = q[l] >> 4;
    }
    out
}

/// Bit `l` of `fifth` becomes bit 4 of element `l`.
#[inline(always)]
fn with_fifth(q: [u8; 16], fifth: u32) -> [u8; 16] {
    let mut out = [0; 16];
    for l in 0..16 {
        out[l] = q[l] | ((fifth >> l) as u8 & 1) << 4;
    }
    out
}

/// Scale and minimum of each of the eight sub-blocks of a Q4_K or Q5_K block: 6-bit numbers, packed in bytes
/// 4..16, times the two f16 numbers of the block.
struct KScales {
    d: f32,
    m: f32,
    packed: [u8; 12],
}

impl KScales {
    #[inline(always)]
    fn read<L: Lanes>(block: &[u8]) -> KScales {
        let d = L::half(u16::from_le_bytes(*at(block, 0)));
        let m = L::half(u16::from_le_bytes(*at(block, 2)));
        KScales { d, m, packed: *at(block, 4) }
    }

    #[inline(always)]
    fn of<L: Lanes>(&self, n: usize) -> (L, L) {
        let packed = &self.packed;
        let (scale, min) = match n {
            0..4 => (packed[n] & 63, packed[n + 4] & 63),
            _ => {
                let both = packed[n + 4];
                (both & 0x0f | packed[n - 4] >> 6 << 4, both >> 4 | packed[n] >> 6 << 4)
            }
        };
        (L::splat(self.d * f32::from(scale)), L::splat(self.m * f32::from(min)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel};
    use super::*;
    use crate::engine::random_model::Random;
    use crate::quant;

    struct Append<'a>(&'a mut Vec<f32>);

    impl<L: Lanes> Visitor<L> for Append<'_> {
        #[inline(always)]
        fn take(&mut self, _i: usize, elements: L) {
            let mut lanes = [0.0; 16];
            elements.store(&mut lanes);
            self.0.extend(lanes);
        }
    }

    struct Decode<'a>(DType, &'a [u8], &'a mut Vec<f32>);

    impl Kernel for Decode<'_> {
        type Output = ();
        #[inline(always)]
        fn run<L: Lanes>(self) {
            struct Work<'a, L>(&'a [u8], &'a mut Vec<f32>, std::marker::PhantomData<L>);
            impl<L: Lanes> WithEncoding for Work<'_, L> {
                type Output = ();
                #[inline(always)]
                fn run<E: Encoding>(self) {
                    for block in self.0.chunks_exact(E::BYTES) {
                        E::each::<L>(block, &mut Append(self.1));
                    }
                }
            }
            dispatch(self.0, Work::<L>(self.1, self.2, std::marker::PhantomData));
        }
    }

    #[test]
    fn random_blocks_decode_to_the_bits_of_the_codec() {
        for &dtype in DType::ALL.iter().filter(|d| is_fast(**d)) {
            let mut random = Random(dtype as u64);
            let bytes: Vec<u8> = (0..dtype.block_bytes() * 512).map(|_| random.next() as u8).collect();
            let mut expected = vec![0.0; dtype.block_len() * 512];
            quant::codec(dtype).expect("it has a codec").decode(&bytes, &mut expected);
            for isa in Isa::available() {
                let mut found = Vec::new();
                isa.run(Decode(dtype, &bytes, &mut found));
                assert_eq!(found.len(), expected.len());
                for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                    let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(same, "{dtype} {} element {i}: {a} is not {b}", isa.name());
                }
            }
        }
    }
}
