//! [`Lanes`] in AVX2 (two registers of 8) and AVX-512 (one of 16).
//!
//! Every operation is one IEEE instruction per lane, as in the scalar definition. The values of these types exist
//! only inside [`Isa::run`](super::isa::Isa), after the processor was asked for the features.
//!
//! No closure may touch lanes: a closure is a function of its own, without the features, and what it calls would
//! not be inlined.

// SAFETY, for every block below: loads and stores are unaligned and go through references to arrays of exactly
// the bytes they touch; the instructions exist, because `Isa::run` instantiates a kernel with these types only
// inside a function that enables the features, on a processor that was found to have them.

use super::lanes::Lanes;
use std::arch::x86_64::*;

/// Lanes 0..8 and 8..16.
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) __m256, pub(super) __m256);

/// All lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx512(pub(super) __m512);

/// The tree from four lanes on: `l + (l + 2)`, then `0 + 1`.
#[inline(always)]
fn sum4(v: __m128) -> f32 {
    // SAFETY: SSE is part of x86-64.
    unsafe {
        let pair = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
    }
}

/// [`sum4`] of each of four: lanes become vectors, and the same additions stand side by side.
#[inline(always)]
fn sums4(a: __m128, b: __m128, c: __m128, d: __m128) -> [f32; 4] {
    // SAFETY: SSE is part of x86-64; the store goes through an array of its size.
    unsafe {
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d)); // a0 b0 a1 b1, c0 d0 c1 d1
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d)); // a2 b2 a3 b3, ..
        let (first, second) = (_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
        let (third, fourth) = (_mm_movelh_ps(ab_high, cd_high), _mm_movehl_ps(cd_high, ab_high));
        let sums = _mm_add_ps(_mm_add_ps(first, third), _mm_add_ps(second, fourth));
        let mut out = [0.0; 4];
        _mm_storeu_ps(out.as_mut_ptr(), sums);
        out
    }
}

/// As [`sum4`], with the maximum.
#[inline(always)]
fn largest4(v: __m128) -> f32 {
    // SAFETY: SSE is part of x86-64.
    unsafe {
        let pair = _mm_max_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
    }
}

/// Asks for a cache line; an address that is not mapped is ignored by the processor.
#[inline(always)]
fn prefetch(at: *const u8) {
    // SAFETY: a prefetch reads nothing and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// One IEEE half.
#[inline(always)]
fn half(bits: u16) -> f32 {
    // SAFETY: F16C is enabled with both instruction sets.
    unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_set1_epi16(bits as i16))) }
}

impl Avx2 {
    /// `l + (l + 8)`, of those `l + (l + 4)`.
    #[inline(always)]
    fn fold(self) -> __m128 {
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight))
        }
    }
}

impl Avx512 {
    #[inline(always)]
    fn halves(self) -> Avx2 {
        unsafe { Avx2(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0)) }
    }
}

impl Lanes for Avx2 {
    const LARGE_TILES: bool = false;

    #[inline(always)]
    fn prefetch(block: &[u8], offset: usize) {
        prefetch(block.as_ptr().wrapping_add(offset));
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        unsafe { Avx2(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), self.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
        }
    }

    #[inline(always)]
    fn from_f32(bytes: &[u8; 64]) -> Self {
        let at = bytes.as_ptr().cast::<f32>();
        unsafe { Avx2(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
    }

    #[inline(always)]
    fn from_f16(bytes: &[u8; 32]) -> Self {
        let at = bytes.as_ptr().cast::<__m128i>();
        unsafe { Avx2(_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at.add(1)))) }
    }

    #[inline(always)]
    fn from_bf16(bytes: &[u8; 32]) -> Self {
        let at = bytes.as_ptr().cast::<__m128i>();
        unsafe {
            let low = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at)));
            let high = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at.add(1))));
            Avx2(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
        }
    }

    #[inline(always)]
    fn from_u8(bytes: &[u8; 16]) -> Self {
        unsafe {
            let all = _mm_loadu_si128(bytes.as_ptr().cast());
            let (low, high) = (_mm256_cvtepu8_epi32(all), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(all)));
            Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }

    #[inline(always)]
    fn from_i8(bytes: &[u8; 16]) -> Self {
        unsafe {
            let all = _mm_loadu_si128(bytes.as_ptr().cast());
            let (low, high) = (_mm256_cvtepi8_epi32(all), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(all)));
            Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }

    #[inline(always)]
    fn half(bits: u16) -> f32 {
        half(bits)
    }

    #[inline(always)]
    fn splat_half(bits: u16) -> Self {
        unsafe {
            let all = _mm256_cvtph_ps(_mm_set1_epi16(bits as i16));
            Avx2(all, all)
        }
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
    fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Avx2(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_min_ps(self.0, b.0), _mm256_min_ps(self.1, b.1)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        unsafe {
            let bias = _mm256_set1_epi32(127 << 23);
            let low = _mm256_add_epi32(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.0)), bias);
            let high = _mm256_add_epi32(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.1)), bias);
            Avx2(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        sum4(self.fold())
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        sums4(a.fold(), b.fold(), c.fold(), d.fold())
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(self.0, self.1);
            largest4(_mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight)))
        }
    }

    #[inline(always)]
    fn prefetch_at<T>(x: &T) {
        prefetch(std::ptr::from_ref(x).cast());
    }

    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        unsafe {
            let at = bytes.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(at, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(at.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
        }
        bytes
    }
}

impl Lanes for Avx512 {
    const LARGE_TILES: bool = true;

    #[inline(always)]
    fn prefetch(block: &[u8], offset: usize) {
        prefetch(block.as_ptr().wrapping_add(offset));
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Avx512(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        unsafe { Avx512(_mm512_loadu_ps(x.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn from_f32(bytes: &[u8; 64]) -> Self {
        unsafe { Avx512(_mm512_loadu_ps(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn from_f16(bytes: &[u8; 32]) -> Self {
        unsafe { Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn from_bf16(bytes: &[u8; 32]) -> Self {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast()));
            Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }

    #[inline(always)]
    fn from_u8(bytes: &[u8; 16]) -> Self {
        unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))) }
    }

    #[inline(always)]
    fn from_i8(bytes: &[u8; 16]) -> Self {
        unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))) }
    }

    #[inline(always)]
    fn half(bits: u16) -> f32 {
        half(bits)
    }

    #[inline(always)]
    fn splat_half(bits: u16) -> Self {
        unsafe { Avx512(_mm512_cvtph_ps(_mm256_set1_epi16(bits as i16))) }
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
    fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Avx512(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_max_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_min_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
            Avx512(_mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 << 23))))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.halves().sum()
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // The same additions, several in one vector: a quarter of it belongs to one of the four in the end.
        unsafe {
            let (ac_low, ac_high) =
                (_mm512_shuffle_f32x4::<0x44>(a.0, c.0), _mm512_shuffle_f32x4::<0xee>(a.0, c.0));
            let (bd_low, bd_high) =
                (_mm512_shuffle_f32x4::<0x44>(b.0, d.0), _mm512_shuffle_f32x4::<0xee>(b.0, d.0));
            let (ac, bd) = (_mm512_add_ps(ac_low, ac_high), _mm512_add_ps(bd_low, bd_high));
            let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(ac, bd), _mm512_shuffle_f32x4::<0xdd>(ac, bd));
            let fours = _mm512_add_ps(even, odd); // of a, c, b, d
            let pairs = _mm512_add_ps(fours, _mm512_permute_ps::<0x4e>(fours));
            let all = _mm512_add_ps(pairs, _mm512_permute_ps::<0xb1>(pairs));
            let order = _mm512_setr_epi32(0, 8, 4, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(_mm512_permutexvar_ps(order, all)));
            out
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.halves().largest()
    }

    #[inline(always)]
    fn prefetch_at<T>(x: &T) {
        prefetch(std::ptr::from_ref(x).cast());
    }

    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), halves);
        }
        bytes
    }
}
