//! The three ways in which GGML's quantisers turn a float into less: to the nearest integer, to the truncated one,
//! and to a stored half.
//!
//! Each is defined for every input as x86-64 computes it, because rows of denormals or huge values lead to
//! infinities and NaN on the way to perfectly ordinary bytes.

/// The nearest integer, ties to even, for |x| < 2^22; beyond that and for NaN the mantissa bits as they fall.
///
/// The sum with 1.5 * 2^23 has a unit in the last place of 1, so the addition itself rounds.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    let bits = (x + 12_582_912.0).to_bits();
    (bits & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Truncation as C compiled for x86-64 does it: `i32::MIN` for NaN and for anything out of range.
#[inline(always)]
pub(super) fn truncate(x: f32) -> i32 {
    // -2^31 itself converts; 2^31 is the first value above that does not.
    if (-2_147_483_648.0..2_147_483_648.0).contains(&x) { x as i32 } else { i32::MIN }
}

/// The half to store for the scale or minimum `x` of a block and what a reader makes of it, or `None` where it
/// is no finite number.
#[inline(always)]
pub(super) fn stored_half(x: f32) -> Option<([u8; 2], f32)> {
    let half = half::f16::from_f32(x);
    half.is_finite().then(|| (half.to_le_bytes(), half.to_f32()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_integer_is_the_even_one_of_two() {
        for (x, n) in
            [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (0.500_001, 1), (-31.7, -32), (4e6, 4_000_000)]
        {
            assert_eq!(nearest(x), n, "{x}");
        }
        assert_eq!(nearest(f32::NAN), 0);
        assert_eq!(nearest(f32::INFINITY), -0x0040_0000);
    }

    #[test]
    fn truncation_out_of_range_is_the_least_integer() {
        assert_eq!(truncate(-2.9), -2);
        for x in [f32::NAN, f32::INFINITY, 2_147_483_648.0, -3e9] {
            assert_eq!(truncate(x), i32::MIN, "{x}");
        }
        assert_eq!(truncate(-2_147_483_648.0), i32::MIN);
    }

    #[test]
    fn a_half_that_overflows_is_not_stored() {
        assert_eq!(stored_half(1.0), Some(([0x00, 0x3c], 1.0)));
        assert_eq!(stored_half(65520.0), None);
        assert_eq!(stored_half(f32::NAN), None);
    }
}
