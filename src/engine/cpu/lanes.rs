//! Sixteen f32 lanes: the unit in which every kernel of this backend is defined.
//!
//! Each lane is rounded as IEEE 754 says and lanes meet only in [`Lanes::sum`], whose tree is fixed, so every
//! instruction set gives the same bits.

use super::quads::Quads;
use std::array::from_fn;

/// Lanes in a vector, whatever the registers of the machine.
pub(super) const WIDTH: usize = 16;

/// Sixteen f32 values. All operations are lane by lane, each rounded once.
pub(crate) trait Lanes: Quads {
    /// Whether there are registers for a 4 × 6 tile of accumulators; else a 2 × 3 one fits.
    const LARGE_TILES: bool;

    /// Asks for the cache line `offset` bytes after the start of `block`, which may lie anywhere.
    fn prefetch(block: &[u8], offset: usize);
    fn splat(x: f32) -> Self;
    fn load(x: &[f32; 16]) -> Self;
    fn store(self, out: &mut [f32; 16]);
    /// 16 little-endian f32.
    fn from_f32(bytes: &[u8; 64]) -> Self;
    /// 16 little-endian IEEE halves.
    fn from_f16(bytes: &[u8; 32]) -> Self;
    /// 16 little-endian bfloat16.
    fn from_bf16(bytes: &[u8; 32]) -> Self;
    fn from_u8(bytes: &[u8; 16]) -> Self;
    fn from_i8(bytes: &[u8; 16]) -> Self;
    /// One IEEE half, for the scale of a block.
    fn half(bits: u16) -> f32;
    /// The same in every lane.
    fn splat_half(bits: u16) -> Self;

    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    /// `self > b ? self : b`: a NaN in `b` stays.
    fn max(self, b: Self) -> Self;
    /// `self < b ? self : b`: a NaN in `b` stays.
    fn min(self, b: Self) -> Self;
    /// For lanes that hold `1.5 * 2^23 + n` with an integer `n` in -126..=127: `2^n`.
    fn power_of_two(self) -> Self;

    /// The sum of all lanes: `l + (l + 8)`, of those `l + (l + 4)`, then 2, then 1.
    fn sum(self) -> f32;
    /// [`Lanes::sum`] of each of four.
    fn sums(four: [Self; 4]) -> [f32; 4];
    /// The largest lane, by the same tree of [`Lanes::max`].
    fn largest(self) -> f32;
    /// Asks for the cache line where `x` begins.
    fn prefetch_at<T>(x: &T);
    /// 16 little-endian IEEE halves, rounded to the nearest, ties to even.
    fn to_f16(self) -> [u8; 32];
}

/// Asks for every cache line of `bytes`.
#[inline(always)]
pub(super) fn ask_for<L: Lanes>(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        L::prefetch(line, 0);
    }
}

/// The definition: plain loops over an array.
#[derive(Clone, Copy)]
pub(super) struct Scalar(pub(super) [f32; 16]);

impl Scalar {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Scalar(from_fn(|l| f(self.0[l], b.0[l])))
    }

    #[inline(always)]
    fn tree(mut self, f: impl Fn(f32, f32) -> f32) -> f32 {
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                self.0[l] = f(self.0[l], self.0[l + half]);
            }
        }
        self.0[0]
    }
}

impl Lanes for Scalar {
    const LARGE_TILES: bool = false;

    #[inline(always)]
    fn prefetch(_block: &[u8], _offset: usize) {}

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Scalar([x; 16])
    }

    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        Scalar(*x)
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        *out = self.0;
    }

    #[inline(always)]
    fn from_f32(bytes: &[u8; 64]) -> Self {
        Scalar(from_fn(|l| f32::from_le_bytes(from_fn(|i| bytes[4 * l + i]))))
    }

    #[inline(always)]
    fn from_f16(bytes: &[u8; 32]) -> Self {
        Scalar(from_fn(|l| Self::half(u16::from_le_bytes([bytes[2 * l], bytes[2 * l + 1]]))))
    }

    #[inline(always)]
    fn from_bf16(bytes: &[u8; 32]) -> Self {
        Scalar(from_fn(|l| f32::from_le_bytes([0, 0, bytes[2 * l], bytes[2 * l + 1]])))
    }

    #[inline(always)]
    fn from_u8(bytes: &[u8; 16]) -> Self {
        Scalar(from_fn(|l| f32::from(bytes[l])))
    }

    #[inline(always)]
    fn from_i8(bytes: &[u8; 16]) -> Self {
        Scalar(from_fn(|l| f32::from(bytes[l] as i8)))
    }

    #[inline(always)]
    fn half(bits: u16) -> f32 {
        half::f16::from_bits(bits).to_f32()
    }

    #[inline(always)]
    fn splat_half(bits: u16) -> Self {
        Self::splat(Self::half(bits))
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Scalar(from_fn(|l| self.0[l].mul_add(b.0[l], c.0[l])))
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Scalar(self.0.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(127 << 23))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.tree(|a, b| a + b)
    }

    #[inline(always)]
    fn sums(four: [Self; 4]) -> [f32; 4] {
        four.map(Self::sum)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.tree(|a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn prefetch_at<T>(_: &T) {}

    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (x, half) in self.0.iter().zip(bytes.as_chunks_mut().0) {
            *half = half::f16::from_f32(*x).to_le_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel};
    use super::*;
    use crate::engine::random_model::Random;

    /// Every operation on the same values, as bits; all NaN are one.
    struct Everything<'a> {
        x: [&'a [f32; 16]; 3],
        bytes: &'a [u8; 64],
    }

    impl Kernel for Everything<'_> {
        type Output = Vec<u32>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u32> {
            let [a, b, c] = [L::load(self.x[0]), L::load(self.x[1]), L::load(self.x[2])];
            let sixteen: &[u8; 16] = self.bytes.first_chunk().expect("64 bytes");
            let halves: &[u8; 32] = self.bytes.first_chunk().expect("64 bytes");
            let half = u16::from_le_bytes([self.bytes[40], self.bytes[41]]);
            // 1.5 * 2^23 and an integer that f32 has a power of two for.
            let integers: [f32; 16] =
                from_fn(|l| 12_582_912.0 + f32::from(self.bytes[l]).clamp(2.0, 255.0) - 128.0);
            let vectors = [
                L::splat(self.x[0][3]),
                L::from_f32(self.bytes),
                L::from_f16(halves),
                L::from_bf16(halves),
                L::from_u8(sixteen),
                L::from_i8(sixteen),
                L::splat_half(half),
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.fma(b, c),
                a.max(b),
                a.min(b),
                L::load(&integers).power_of_two(),
            ];
            let mut bits = Vec::new();
            for vector in vectors {
                let mut lanes = [0.0; 16];
                vector.store(&mut lanes);
                push(&mut bits, &lanes);
            }
            let [d, e, f, g] = L::sums([a, b, c, a.add(b)]);
            push(&mut bits, &[L::half(half), a.sum(), a.largest(), d, e, f, g]);
            L::prefetch(self.bytes, 1 << 40);
            L::prefetch_at(self.bytes);
            for half in a.to_f16().as_chunks().0 {
                let half = half::f16::from_le_bytes(*half);
                bits.push(if half.is_nan() { 0x7e00 } else { u32::from(half.to_bits()) });
            }
            bits
        }
    }

    fn push(bits: &mut Vec<u32>, values: &[f32]) {
        bits.extend(values.iter().map(|x| if x.is_nan() { f32::NAN } else { *x }.to_bits()));
    }

    #[test]
    fn every_operation_gives_the_bits_of_scalar_code() {
        let special =
            [0.0, -0.0, f32::NAN, f32::INFINITY, -f32::INFINITY, 1e-40, -1e-40, f32::MAX, 65_519.9, 65_520.0];
        let mut random = Random(1);
        for round in 0..500 {
            let mut values = || -> [f32; 16] {
                from_fn(|_| match (random.next() % 8, random.next()) {
                    // Half of the rounds have ordinary numbers only, whose sums say something.
                    (0, pick) if round % 2 == 0 => special[pick as usize % special.len()],
                    (1, any) if round % 2 == 0 => f32::from_bits(any as u32),
                    _ => 4.0 * random.signed(),
                })
            };
            let x = [values(), values(), values()];
            let bytes = from_fn(|_| random.next() as u8);
            let [scalar, others @ ..] = &Isa::available()[..] else {
                unreachable!("scalar code runs everywhere")
            };
            let expected = scalar.run(Everything { x: x.each_ref(), bytes: &bytes });
            for isa in others {
                let found = isa.run(Everything { x: x.each_ref(), bytes: &bytes });
                let apart = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert!(
                    found.len() == expected.len() && apart.is_none(),
                    "{} at {apart:?}, {x:?}",
                    isa.name()
                );
            }
        }
    }
}
