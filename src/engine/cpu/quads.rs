//! Integers of the `fast` numerics: sixteen rows side by side, four bytes of each, multiplied exactly.
//!
//! Nothing here rounds but [`Quads::from_ints`] and [`Quads::round`], so every instruction set gives the same bits.

use super::lanes::Scalar;
use std::array::from_fn;

/// Bytes and integers of sixteen rows. A supertrait of [`Lanes`](super::lanes::Lanes): one lane is one row.
pub(crate) trait Quads: Copy {
    /// 64 unsigned bytes: row `r` has the bytes `4 r .. 4 r + 4`.
    type Bytes: Copy;
    /// One i32 per row.
    type Ints: Copy;
    /// Whether the instruction that multiplies weights takes them unsigned, so that signed ones are raised by 128.
    const RAISES: bool;

    fn bytes(at: &[u8; 64]) -> Self::Bytes;
    fn store_bytes(bytes: Self::Bytes, out: &mut [u8; 64]);
    /// `(byte >> shift) & MASK`; a negative shift goes left. `MASK` has no bit that a neighbour could shift in.
    fn field<const MASK: u8>(bytes: Self::Bytes, shift: i32) -> Self::Bytes;
    fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Two's complement bytes as [`Quads::dot_wide`] multiplies them: where [`Quads::RAISES`], with 128 added, as
    /// unsigned ones; else as they are.
    fn raised(bytes: Self::Bytes) -> Self::Bytes;
    /// Row by row, `sums + w[0] x[0] + .. + w[3] x[3]`, where `x` is four i8 in -127..=127, lowest byte first.
    /// Weights are at most 127.
    fn dot(sums: Self::Ints, w: Self::Bytes, x: i32) -> Self::Ints;
    /// As [`Quads::dot`], for what [`Quads::raised`] gives.
    fn dot_wide(sums: Self::Ints, w: Self::Bytes, x: i32) -> Self::Ints;

    fn splat_int(x: i32) -> Self::Ints;
    fn ints_from_u8(bytes: &[u8; 16]) -> Self::Ints;
    fn ints_from_i8(bytes: &[u8; 16]) -> Self::Ints;
    fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn or_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// `(x >> shift) & MASK` of values that are not negative; a negative shift goes left.
    fn field_ints<const MASK: i32>(x: Self::Ints, shift: i32) -> Self::Ints;
    /// `x >> n`, with the sign.
    fn shift_ints(x: Self::Ints, n: i32) -> Self::Ints;
    /// The lowest byte of each.
    fn low_bytes(x: Self::Ints) -> [u8; 16];
    /// As floats: exact below 2^24, else rounded to nearest even.
    fn from_ints(x: Self::Ints) -> Self;
    /// The nearest integers, ties to even; anything where that is no i32.
    fn round(self) -> Self::Ints;
}

impl Quads for Scalar {
    type Bytes = [u8; 64];
    type Ints = [i32; 16];
    const RAISES: bool = true;

    #[inline(always)]
    fn bytes(at: &[u8; 64]) -> [u8; 64] {
        *at
    }

    #[inline(always)]
    fn store_bytes(bytes: [u8; 64], out: &mut [u8; 64]) {
        *out = bytes;
    }

    #[inline(always)]
    fn field<const MASK: u8>(bytes: [u8; 64], shift: i32) -> [u8; 64] {
        bytes.map(|b| if shift >= 0 { b >> shift & MASK } else { b << -shift & MASK })
    }

    #[inline(always)]
    fn or(a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn raised(bytes: [u8; 64]) -> [u8; 64] {
        bytes.map(|b| b ^ 0x80)
    }

    #[inline(always)]
    fn dot(sums: [i32; 16], w: [u8; 64], x: i32) -> [i32; 16] {
        let x = x.to_le_bytes().map(|x| i32::from(x as i8));
        from_fn(|r| sums[r] + (0..4).map(|j| i32::from(w[4 * r + j]) * x[j]).sum::<i32>())
    }

    #[inline(always)]
    fn dot_wide(sums: [i32; 16], w: [u8; 64], x: i32) -> [i32; 16] {
        Self::dot(sums, w, x)
    }

    #[inline(always)]
    fn splat_int(x: i32) -> [i32; 16] {
        [x; 16]
    }

    #[inline(always)]
    fn ints_from_u8(bytes: &[u8; 16]) -> [i32; 16] {
        bytes.map(i32::from)
    }

    #[inline(always)]
    fn ints_from_i8(bytes: &[u8; 16]) -> [i32; 16] {
        bytes.map(|b| i32::from(b as i8))
    }

    #[inline(always)]
    fn add_ints(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|r| a[r] + b[r])
    }

    #[inline(always)]
    fn or_ints(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|r| a[r] | b[r])
    }

    #[inline(always)]
    fn field_ints<const MASK: i32>(x: [i32; 16], shift: i32) -> [i32; 16] {
        x.map(|x| if shift >= 0 { x >> shift & MASK } else { x << -shift & MASK })
    }

    #[inline(always)]
    fn shift_ints(x: [i32; 16], n: i32) -> [i32; 16] {
        x.map(|x| x >> n)
    }

    #[inline(always)]
    fn low_bytes(x: [i32; 16]) -> [u8; 16] {
        x.map(|x| x as u8)
    }

    #[inline(always)]
    fn from_ints(x: [i32; 16]) -> Self {
        Scalar(x.map(|x| x as f32))
    }

    #[inline(always)]
    fn round(self) -> [i32; 16] {
        self.0.map(|x| x.round_ties_even() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel};
    use super::super::lanes::Lanes;
    use super::*;
    use crate::engine::random_model::Random;

    /// Every operation on the same bytes. Products of raised weights come without what raising adds.
    struct Everything<'a> {
        weights: &'a [u8; 64],
        other: &'a [u8; 64],
        x: [i8; 4],
    }

    impl Kernel for Everything<'_> {
        type Output = Vec<i32>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<i32> {
            let (w, other) = (L::bytes(self.weights), L::bytes(self.other));
            let x = i32::from_le_bytes(self.x.map(|x| x as u8));
            let mut out = Vec::new();
            for bytes in [
                w,
                L::field::<0x0f>(w, 0),
                L::field::<0x0f>(w, 4),
                L::field::<0x03>(w, 6),
                L::field::<0x10>(w, -4),
                L::field::<0x20>(w, 2),
                L::or(w, other),
            ] {
                let mut bytes_of = [0; 64];
                L::store_bytes(bytes, &mut bytes_of);
                out.extend(bytes_of.map(i32::from));
            }
            let sixteen: &[u8; 16] = self.weights.first_chunk().expect("64 bytes");
            let (small, signed) = (L::ints_from_u8(sixteen), L::ints_from_i8(sixteen));
            let added: i32 = self.x.iter().map(|x| 128 * i32::from(*x)).sum();
            let start = L::splat_int(if L::RAISES { 7 - added } else { 7 });
            for ints in [
                small,
                signed,
                L::dot(small, L::field::<0x7f>(w, 0), x),
                L::dot_wide(start, L::raised(w), x),
                L::add_ints(small, signed),
                L::or_ints(small, signed),
                L::field_ints::<0x0c>(small, 2),
                L::field_ints::<0x30>(small, -4),
                L::shift_ints(L::dot(signed, L::field::<0x7f>(other, 0), x), 3),
            ] {
                let mut floats = [0.0; 16];
                L::from_ints(ints).store(&mut floats);
                // Exact: all are below 2^24.
                out.extend(floats.map(|x| x as i32));
                out.extend(L::low_bytes(ints).map(i32::from));
            }
            // Halves, ties among them.
            let halves = L::from_ints(signed).mul(L::splat(0.5));
            let mut rounded = [0.0; 16];
            L::from_ints(halves.round()).store(&mut rounded);
            out.extend(rounded.map(|x| x as i32));
            out
        }
    }

    #[test]
    fn every_operation_gives_the_integers_of_scalar_code() {
        let mut random = Random(2);
        for round in 0..500 {
            let mut weights: [u8; 64] = from_fn(|_| random.next() as u8);
            let mut x: [i8; 4] = from_fn(|_| (random.next() % 255) as i8).map(|x: i8| x.max(-127));
            // What comes nearest to leaving 16 bits.
            if round < 8 {
                weights.fill([0x80, 0x7f, 0xff, 0x00][round % 4]);
                x.fill([127, -127][round / 4]);
            }
            let other = from_fn(|_| random.next() as u8);
            let [scalar, others @ ..] = &Isa::available()[..] else {
                unreachable!("scalar code runs everywhere")
            };
            let expected = scalar.run(Everything { weights: &weights, other: &other, x });
            for isa in others {
                let found = isa.run(Everything { weights: &weights, other: &other, x });
                let apart = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert!(found.len() == expected.len() && apart.is_none(), "{} at {apart:?}", isa.name());
            }
        }
    }
}
