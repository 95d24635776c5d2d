//! [`Quads`] in AVX2 (two registers of eight rows) and AVX-512 with VNNI (one of sixteen).

// SAFETY, for every block below: as in `x86.rs`. Loads and stores are unaligned and go through references to arrays
// of exactly the bytes they touch; the instructions exist, because `Isa::run` instantiates a kernel with these types
// only inside a function that enables the features, on a processor that was found to have them.

use super::quads::Quads;
use super::x86::{Avx2, Avx512};
use std::arch::x86_64::*;

/// Eight rows, twice.
#[derive(Clone, Copy)]
pub(super) struct Pair(__m256i, __m256i);

/// The products of one register: pairs as i16, which 2 * 128 * 127 does not saturate, then pairs of those.
#[inline(always)]
fn dot8(sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
    unsafe {
        let pairs = _mm256_maddubs_epi16(w, x);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

impl Quads for Avx2 {
    type Bytes = Pair;
    type Ints = Pair;
    const RAISES: bool = true;

    #[inline(always)]
    fn bytes(at: &[u8; 64]) -> Pair {
        let at = at.as_ptr().cast::<__m256i>();
        unsafe { Pair(_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))) }
    }

    #[inline(always)]
    fn store_bytes(bytes: Pair, out: &mut [u8; 64]) {
        let at = out.as_mut_ptr().cast::<__m256i>();
        unsafe {
            _mm256_storeu_si256(at, bytes.0);
            _mm256_storeu_si256(at.add(1), bytes.1);
        }
    }

    #[inline(always)]
    fn field<const MASK: u8>(bytes: Pair, shift: i32) -> Pair {
        unsafe {
            let mask = _mm256_set1_epi8(MASK as i8);
            let count = _mm_cvtsi32_si128(shift.abs());
            if shift > 0 {
                let (a, b) = (_mm256_srl_epi16(bytes.0, count), _mm256_srl_epi16(bytes.1, count));
                Pair(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask))
            } else if shift < 0 {
                let (a, b) = (_mm256_sll_epi16(bytes.0, count), _mm256_sll_epi16(bytes.1, count));
                Pair(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask))
            } else {
                Pair(_mm256_and_si256(bytes.0, mask), _mm256_and_si256(bytes.1, mask))
            }
        }
    }

    #[inline(always)]
    fn or(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1)) }
    }

    #[inline(always)]
    fn raised(bytes: Pair) -> Pair {
        unsafe {
            let top = _mm256_set1_epi8(-128);
            Pair(_mm256_xor_si256(bytes.0, top), _mm256_xor_si256(bytes.1, top))
        }
    }

    #[inline(always)]
    fn dot(sums: Pair, w: Pair, x: i32) -> Pair {
        unsafe {
            let x = _mm256_set1_epi32(x);
            Pair(dot8(sums.0, w.0, x), dot8(sums.1, w.1, x))
        }
    }

    #[inline(always)]
    fn dot_wide(sums: Pair, w: Pair, x: i32) -> Pair {
        // A weight of 128 alone does not saturate either.
        let low = Self::dot(sums, Self::field::<0x7f>(w, 0), x);
        Self::dot(low, Self::field::<0x80>(w, 0), x)
    }

    #[inline(always)]
    fn splat_int(x: i32) -> Pair {
        unsafe { Pair(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }

    #[inline(always)]
    fn ints_from_u8(bytes: &[u8; 16]) -> Pair {
        unsafe {
            let all = _mm_loadu_si128(bytes.as_ptr().cast());
            Pair(_mm256_cvtepu8_epi32(all), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(all)))
        }
    }

    #[inline(always)]
    fn ints_from_i8(bytes: &[u8; 16]) -> Pair {
        unsafe {
            let all = _mm_loadu_si128(bytes.as_ptr().cast());
            Pair(_mm256_cvtepi8_epi32(all), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(all)))
        }
    }

    #[inline(always)]
    fn add_ints(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)) }
    }

    #[inline(always)]
    fn or_ints(a: Pair, b: Pair) -> Pair {
        Self::or(a, b)
    }

    #[inline(always)]
    fn field_ints<const MASK: i32>(x: Pair, shift: i32) -> Pair {
        unsafe {
            let mask = _mm256_set1_epi32(MASK);
            let count = _mm_cvtsi32_si128(shift.abs());
            if shift >= 0 {
                let (a, b) = (_mm256_srl_epi32(x.0, count), _mm256_srl_epi32(x.1, count));
                Pair(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask))
            } else {
                let (a, b) = (_mm256_sll_epi32(x.0, count), _mm256_sll_epi32(x.1, count));
                Pair(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask))
            }
        }
    }

    #[inline(always)]
    fn shift_ints(x: Pair, n: i32) -> Pair {
        unsafe {
            let count = _mm_cvtsi32_si128(n);
            Pair(_mm256_sra_epi32(x.0, count), _mm256_sra_epi32(x.1, count))
        }
    }

    #[inline(always)]
    fn low_bytes(x: Pair) -> [u8; 16] {
        let mut all = [0u8; 64];
        Self::store_bytes(x, &mut all);
        let mut low = [0; 16];
        for r in 0..16 {
            low[r] = all[4 * r];
        }
        low
    }

    #[inline(always)]
    fn from_ints(x: Pair) -> Self {
        unsafe { Avx2(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)) }
    }

    #[inline(always)]
    fn round(self) -> Pair {
        unsafe { Pair(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1)) }
    }
}

impl Quads for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    const RAISES: bool = true;

    #[inline(always)]
    fn bytes(at: &[u8; 64]) -> __m512i {
        unsafe { _mm512_loadu_si512(at.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_bytes(bytes: __m512i, out: &mut [u8; 64]) {
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn field<const MASK: u8>(bytes: __m512i, shift: i32) -> __m512i {
        unsafe {
            let count = _mm_cvtsi32_si128(shift.abs());
            let shifted = if shift > 0 {
                _mm512_srl_epi16(bytes, count)
            } else if shift < 0 {
                _mm512_sll_epi16(bytes, count)
            } else {
                bytes
            };
            _mm512_and_si512(shifted, _mm512_set1_epi8(MASK as i8))
        }
    }

    #[inline(always)]
    fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn raised(bytes: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    fn dot(sums: __m512i, w: __m512i, x: i32) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    fn dot_wide(sums: __m512i, w: __m512i, x: i32) -> __m512i {
        Self::dot(sums, w, x)
    }

    #[inline(always)]
    fn splat_int(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn ints_from_u8(bytes: &[u8; 16]) -> __m512i {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn ints_from_i8(bytes: &[u8; 16]) -> __m512i {
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn add_ints(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn or_ints(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn field_ints<const MASK: i32>(x: __m512i, shift: i32) -> __m512i {
        unsafe {
            let count = _mm_cvtsi32_si128(shift.abs());
            let shifted = if shift >= 0 { _mm512_srl_epi32(x, count) } else { _mm512_sll_epi32(x, count) };
            _mm512_and_si512(shifted, _mm512_set1_epi32(MASK))
        }
    }

    #[inline(always)]
    fn shift_ints(x: __m512i, n: i32) -> __m512i {
        unsafe { _mm512_sra_epi32(x, _mm_cvtsi32_si128(n)) }
    }

    #[inline(always)]
    fn low_bytes(x: __m512i) -> [u8; 16] {
        let mut low = [0; 16];
        unsafe { _mm_storeu_si128(low.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(x)) };
        low
    }

    #[inline(always)]
    fn from_ints(x: __m512i) -> Self {
        unsafe { Avx512(_mm512_cvtepi32_ps(x)) }
    }

    #[inline(always)]
    fn round(self) -> __m512i {
        unsafe { _mm512_cvtps_epi32(self.0) }
    }
}
