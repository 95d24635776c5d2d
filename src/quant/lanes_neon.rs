//! [`Lanes`] in NEON, four registers of 4: one instruction per lane and operation, as in the portable definition, and no
//! fused multiply-add.

// SAFETY, for every block below: NEON is part of the target; loads and stores have no alignment and go through
// references to arrays of exactly the bytes they touch.

use super::lanes::{Lanes, WIDTH};
use std::arch::aarch64::*;

/// Lanes 0..4, 4..8, 8..12 and 12..16.
#[derive(Clone, Copy)]
pub(super) struct Neon([float32x4_t; 4]);

/// Added, it leaves the nearest integer plus 2^22 in the 23 mantissa bits.
const MAGIC: f32 = 12_582_912.0;
const MANTISSA: i32 = 0x007f_ffff;
const BIAS: i32 = 0x0040_0000;
const SIGN: u32 = 1 << 31;
/// The first float above every i32.
const TOO_LARGE: f32 = 2_147_483_648.0;
/// The float just below a half.
const UNDER_HALF: f32 = 0.5f32.next_down();

impl Neon {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Neon([f(self.0[0], b.0[0]), f(self.0[1], b.0[1]), f(self.0[2], b.0[2]), f(self.0[3], b.0[3])])
    }

    #[inline(always)]
    fn test(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> uint32x4_t) -> [uint32x4_t; 4] {
        [f(self.0[0], b.0[0]), f(self.0[1], b.0[1]), f(self.0[2], b.0[2]), f(self.0[3], b.0[3])]
    }
}

#[inline(always)]
fn nearest_within4(x: float32x4_t, low: i32, high: i32) -> float32x4_t {
    unsafe {
        let bits = vreinterpretq_s32_f32(vaddq_f32(x, vdupq_n_f32(MAGIC)));
        let n = vsubq_s32(vandq_s32(bits, vdupq_n_s32(MANTISSA)), vdupq_n_s32(BIAS));
        vcvtq_f32_s32(vminq_s32(vmaxq_s32(n, vdupq_n_s32(low)), vdupq_n_s32(high)))
    }
}

/// The conversion alone would give the nearest integer that there is, and 0 for NaN.
#[inline(always)]
fn truncated4(x: float32x4_t) -> int32x4_t {
    unsafe {
        let in_range = vandq_u32(vcgeq_f32(x, vdupq_n_f32(-TOO_LARGE)), vcltq_f32(x, vdupq_n_f32(TOO_LARGE)));
        vbslq_s32(in_range, vcvtq_s32_f32(x), vdupq_n_s32(i32::MIN))
    }
}

#[inline(always)]
fn away_from_zero4(x: float32x4_t) -> float32x4_t {
    unsafe { vaddq_f32(x, vbslq_f32(vdupq_n_u32(SIGN), x, vdupq_n_f32(UNDER_HALF))) }
}

impl Lanes for Neon {
    type Mask = [uint32x4_t; 4];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Neon([vdupq_n_f32(x); 4]) }
    }

    #[inline(always)]
    fn load(x: &[f32; WIDTH]) -> Self {
        let at = x.as_ptr();
        unsafe { Neon([vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12))]) }
    }

    #[inline(always)]
    fn to_array(self) -> [f32; WIDTH] {
        let mut out = [0.0; WIDTH];
        for (four, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            unsafe { vst1q_f32(four.as_mut_ptr(), x) };
        }
        out
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vdivq_f32(a, b) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Neon(self.0.map(|x| unsafe { vsqrtq_f32(x) }))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Neon(self.0.map(|x| unsafe { vabsq_f32(x) }))
    }

    #[inline(always)]
    fn neg(self) -> Self {
        Neon(self.0.map(|x| unsafe { vnegq_f32(x) }))
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn nearest_within(self, low: i32, high: i32) -> Self {
        Neon(self.0.map(|x| nearest_within4(x, low, high)))
    }

    #[inline(always)]
    fn truncated(self) -> [i32; WIDTH] {
        let mut out = [0; WIDTH];
        for (four, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            unsafe { vst1q_s32(four.as_mut_ptr(), truncated4(x)) };
        }
        out
    }

    #[inline(always)]
    fn away_from_zero(self) -> Self {
        Neon(self.0.map(away_from_zero4))
    }

    #[inline(always)]
    fn lt(self, b: Self) -> Self::Mask {
        self.test(b, |a, b| unsafe { vcltq_f32(a, b) })
    }

    #[inline(always)]
    fn ne(self, b: Self) -> Self::Mask {
        self.test(b, |a, b| unsafe { vmvnq_u32(vceqq_f32(a, b)) })
    }

    #[inline(always)]
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        unsafe {
            [vandq_u32(a[0], b[0]), vandq_u32(a[1], b[1]), vandq_u32(a[2], b[2]), vandq_u32(a[3], b[3])]
        }
    }

    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        unsafe {
            Neon([
                vbslq_f32(mask[0], yes.0[0], no.0[0]),
                vbslq_f32(mask[1], yes.0[1], no.0[1]),
                vbslq_f32(mask[2], yes.0[2], no.0[2]),
                vbslq_f32(mask[3], yes.0[3], no.0[3]),
            ])
        }
    }

    #[inline(always)]
    fn bits(mask: Self::Mask) -> u32 {
        const BITS: [u32; WIDTH] =
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768];
        unsafe {
            let bits = BITS.as_ptr();
            let low =
                vorrq_u32(vandq_u32(mask[0], vld1q_u32(bits)), vandq_u32(mask[1], vld1q_u32(bits.add(4))));
            let high = vorrq_u32(
                vandq_u32(mask[2], vld1q_u32(bits.add(8))),
                vandq_u32(mask[3], vld1q_u32(bits.add(12))),
            );
            vaddvq_u32(vorrq_u32(low, high))
        }
    }
}
