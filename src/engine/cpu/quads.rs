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

    fn bytes(at: &[u8; 64]) -> Self::Bytes;
    fn store_bytes(bytes: Self::Bytes, out: &mut [u8; 64]);
    /// `(byte >> shift) & MASK`; a negative shift goes left. `MASK` has no bit that a neighbour could shift in.
    fn field<const MASK: u8>(bytes: Self::Bytes, shift: i32) -> Self::Bytes;
    fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Two's complement bytes with 128 added, as unsigned ones.
    fn raised(bytes: Self::Bytes) -> Self::Bytes;
    /// Row by row, `sums + w[0] x[0] + .. + w[3] x[3]`, where `x` is four i8 in -127..=127, lowest byte first.
    /// Weights are at most 128.
    fn dot(sums: Self::Ints, w: Self::Bytes, x: i32) -> Self::Ints;
    /// As [`Quads::dot`], for any weights.
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
