//! [`Lanes`] in AVX2 (two registers of 8) and AVX-512 (one of 16): one instruction per lane and operation, as in
//! the portable definition, and no fused multiply-add.

// SAFETY, for every block below: loads and stores are unaligned and go through references to arrays of exactly
// the bytes they touch; the instructions exist, because `Isa::run` instantiates a kernel with these types only
// inside a function that enables the features, on a processor that was found to have them.

use super::lanes::{Lanes, WIDTH};
use std::arch::x86_64::*;

/// Lanes 0..8 and 8..16.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256, __m256);

/// All lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// Added, it leaves the nearest integer plus 2^22 in the 23 mantissa bits.
const MAGIC: f32 = 12_582_912.0;
const MANTISSA: i32 = 0x007f_ffff;
const BIAS: i32 = 0x0040_0000;
const SIGN: i32 = i32::MIN;
/// The float just below a half.
const UNDER_HALF: f32 = 0.5f32.next_down();

#[inline(always)]
fn nearest_within8(x: __m256, low: i32, high: i32) -> __m256 {
    unsafe {
        let bits = _mm256_castps_si256(_mm256_add_ps(x, _mm256_set1_ps(MAGIC)));
        let biased = _mm256_and_si256(bits, _mm256_set1_epi32(MANTISSA));
        let n = _mm256_sub_epi32(biased, _mm256_set1_epi32(BIAS));
        let n = _mm256_min_epi32(_mm256_max_epi32(n, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
        _mm256_cvtepi32_ps(n)
    }
}

#[inline(always)]
fn away_from_zero8(x: __m256) -> __m256 {
    unsafe {
        let sign = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(SIGN)));
        _mm256_add_ps(x, _mm256_or_ps(sign, _mm256_set1_ps(UNDER_HALF)))
    }
}

impl Lanes for Avx2 {
    type Mask = (__m256, __m256);

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(x: &[f32; WIDTH]) -> Self {
        unsafe { Avx2(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn to_array(self) -> [f32; WIDTH] {
        let mut out = [0.0; WIDTH];
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), self.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
        }
        out
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_add_ps(self.0, b.0), _mm256_add_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_sub_ps(self.0, b.0), _mm256_sub_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_mul_ps(self.0, b.0), _mm256_mul_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_div_ps(self.0, b.0), _mm256_div_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        unsafe { Avx2(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        unsafe {
            let sign = _mm256_castsi256_ps(_mm256_set1_epi32(SIGN));
            Avx2(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }

    #[inline(always)]
    fn neg(self) -> Self {
        unsafe {
            let sign = _mm256_castsi256_ps(_mm256_set1_epi32(SIGN));
            Avx2(_mm256_xor_ps(sign, self.0), _mm256_xor_ps(sign, self.1))
        }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_min_ps(self.0, b.0), _mm256_min_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn nearest_within(self, low: i32, high: i32) -> Self {
        Avx2(nearest_within8(self.0, low, high), nearest_within8(self.1, low, high))
    }

    #[inline(always)]
    fn truncated(self) -> [i32; WIDTH] {
        let mut out = [0; WIDTH];
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_cvttps_epi32(self.0));
            _mm256_storeu_si256(out.as_mut_ptr().add(8).cast(), _mm256_cvttps_epi32(self.1));
        }
        out
    }

    #[inline(always)]
    fn away_from_zero(self) -> Self {
        Avx2(away_from_zero8(self.0), away_from_zero8(self.1))
    }

    #[inline(always)]
    fn lt(self, b: Self) -> Self::Mask {
        unsafe { (_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0), _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, b.1)) }
    }

    #[inline(always)]
    fn ne(self, b: Self) -> Self::Mask {
        unsafe { (_mm256_cmp_ps::<_CMP_NEQ_UQ>(self.0, b.0), _mm256_cmp_ps::<_CMP_NEQ_UQ>(self.1, b.1)) }
    }

    #[inline(always)]
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        unsafe { (_mm256_and_ps(a.0, b.0), _mm256_and_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        unsafe { Avx2(_mm256_blendv_ps(no.0, yes.0, mask.0), _mm256_blendv_ps(no.1, yes.1, mask.1)) }
    }

    #[inline(always)]
    fn bits(mask: Self::Mask) -> u32 {
        unsafe { (_mm256_movemask_ps(mask.0) | _mm256_movemask_ps(mask.1) << 8) as u32 }
    }
}

impl Lanes for Avx512 {
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Avx512(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(x: &[f32; WIDTH]) -> Self {
        unsafe { Avx512(_mm512_loadu_ps(x.as_ptr())) }
    }

    #[inline(always)]
    fn to_array(self) -> [f32; WIDTH] {
        let mut out = [0.0; WIDTH];
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) };
        out
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_add_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_div_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        unsafe { Avx512(_mm512_sqrt_ps(self.0)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        unsafe { Avx512(_mm512_abs_ps(self.0)) }
    }

    #[inline(always)]
    fn neg(self) -> Self {
        unsafe { Avx512(_mm512_xor_ps(_mm512_castsi512_ps(_mm512_set1_epi32(SIGN)), self.0)) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_min_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_max_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn nearest_within(self, low: i32, high: i32) -> Self {
        unsafe {
            let bits = _mm512_castps_si512(_mm512_add_ps(self.0, _mm512_set1_ps(MAGIC)));
            let biased = _mm512_and_si512(bits, _mm512_set1_epi32(MANTISSA));
            let n = _mm512_sub_epi32(biased, _mm512_set1_epi32(BIAS));
            let n = _mm512_min_epi32(_mm512_max_epi32(n, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
            Avx512(_mm512_cvtepi32_ps(n))
        }
    }

    #[inline(always)]
    fn truncated(self) -> [i32; WIDTH] {
        let mut out = [0; WIDTH];
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_cvttps_epi32(self.0)) };
        out
    }

    #[inline(always)]
    fn away_from_zero(self) -> Self {
        unsafe {
            let sign = _mm512_and_ps(self.0, _mm512_castsi512_ps(_mm512_set1_epi32(SIGN)));
            Avx512(_mm512_add_ps(self.0, _mm512_or_ps(sign, _mm512_set1_ps(UNDER_HALF))))
        }
    }

    #[inline(always)]
    fn lt(self, b: Self) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0) }
    }

    #[inline(always)]
    fn ne(self, b: Self) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, b.0) }
    }

    #[inline(always)]
    fn both(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }

    #[inline(always)]
    fn select(mask: __mmask16, yes: Self, no: Self) -> Self {
        unsafe { Avx512(_mm512_mask_blend_ps(mask, no.0, yes.0)) }
    }

    #[inline(always)]
    fn bits(mask: __mmask16) -> u32 {
        u32::from(mask)
    }
}
