//! [`Lanes`] in NEON: four registers of 4.
//!
//! Every operation is one IEEE instruction per lane, as in the scalar definition. NEON belongs to every AArch64 processor
//! that Rust's standard library runs on; only the products of bytes that SDOT gives (`quads_neon.rs`) must be detected.

use super::lanes::Lanes;
use std::arch::aarch64::*;
use std::arch::asm;

/// Lanes 0..4, 4..8, 8..12 and 12..16. With `SDOT`, products of bytes use that instruction: such a type is for
/// [`Isa::run`](super::isa::Isa::run) alone, which looks whether the processor has it.
#[derive(Clone, Copy)]
pub(super) struct Neon<const SDOT: bool>(pub(super) [float32x4_t; 4]);

// SAFETY, for every block below: NEON is part of the target; loads and stores have no alignment and go through
// references to arrays of exactly the bytes they touch.

impl<const SDOT: bool> Neon<SDOT> {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Neon([f(self.0[0], b.0[0]), f(self.0[1], b.0[1]), f(self.0[2], b.0[2]), f(self.0[3], b.0[3])])
    }

    /// `l + (l + 8)`, of those `l + (l + 4)`.
    #[inline(always)]
    fn fold(self) -> float32x4_t {
        unsafe { vaddq_f32(vaddq_f32(self.0[0], self.0[2]), vaddq_f32(self.0[1], self.0[3])) }
    }
}

/// `a > b ? a : b`, which is not what `fmax` does with a NaN or with zeros.
#[inline(always)]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

/// Asks for a cache line; an address that is not mapped is ignored by the processor. The intrinsic is not stable.
#[inline(always)]
fn prefetch(at: *const u8) {
    // SAFETY: a prefetch reads nothing and never faults.
    unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) at, options(nomem, nostack, preserves_flags)) }
}

/// Four IEEE halves, widened. The instruction is part of NEON; its intrinsic waits for a stable `f16`.
#[inline(always)]
fn widened(halves: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// The inverse of [`widened`], rounded to the nearest, ties to even.
#[inline(always)]
fn narrowed(wide: float32x4_t) -> uint16x4_t {
    let halves: uint16x4_t;
    unsafe {
        asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) wide, options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

impl<const SDOT: bool> Lanes for Neon<SDOT> {
    // 24 accumulators of 16 lanes would be 96 registers; there are 32.
    const LARGE_TILES: bool = false;

    #[inline(always)]
    fn prefetch(block: &[u8], offset: usize) {
        prefetch(block.as_ptr().wrapping_add(offset));
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Neon([vdupq_n_f32(x); 4]) }
    }

    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        let at = x.as_ptr();
        unsafe { Neon([vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12))]) }
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        let at = out.as_mut_ptr();
        unsafe {
            vst1q_f32(at, self.0[0]);
            vst1q_f32(at.add(4), self.0[1]);
            vst1q_f32(at.add(8), self.0[2]);
            vst1q_f32(at.add(12), self.0[3]);
        }
    }

    #[inline(always)]
    fn from_f32(bytes: &[u8; 64]) -> Self {
        let at = bytes.as_ptr();
        unsafe {
            Neon([
                vreinterpretq_f32_u8(vld1q_u8(at)),
                vreinterpretq_f32_u8(vld1q_u8(at.add(16))),
                vreinterpretq_f32_u8(vld1q_u8(at.add(32))),
                vreinterpretq_f32_u8(vld1q_u8(at.add(48))),
            ])
        }
    }

    #[inline(always)]
    fn from_f16(bytes: &[u8; 32]) -> Self {
        let at = bytes.as_ptr();
        unsafe {
            let (low, high) =
                (vreinterpretq_u16_u8(vld1q_u8(at)), vreinterpretq_u16_u8(vld1q_u8(at.add(16))));
            Neon([
                widened(vget_low_u16(low)),
                widened(vget_high_u16(low)),
                widened(vget_low_u16(high)),
                widened(vget_high_u16(high)),
            ])
        }
    }

    #[inline(always)]
    fn from_bf16(bytes: &[u8; 32]) -> Self {
        let at = bytes.as_ptr();
        unsafe {
            let (low, high) =
                (vreinterpretq_u16_u8(vld1q_u8(at)), vreinterpretq_u16_u8(vld1q_u8(at.add(16))));
            Neon([
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(high))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(high))),
            ])
        }
    }

    #[inline(always)]
    fn from_u8(bytes: &[u8; 16]) -> Self {
        Neon(wide_u8(bytes).map(|x| unsafe { vcvtq_f32_u32(x) }))
    }

    #[inline(always)]
    fn from_i8(bytes: &[u8; 16]) -> Self {
        Neon(wide_i8(bytes).map(|x| unsafe { vcvtq_f32_s32(x) }))
    }

    #[inline(always)]
    fn half(bits: u16) -> f32 {
        unsafe { vgetq_lane_f32::<0>(widened(vdup_n_u16(bits))) }
    }

    #[inline(always)]
    fn splat_half(bits: u16) -> Self {
        unsafe { Neon([widened(vdup_n_u16(bits)); 4]) }
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
    fn fma(self, b: Self, c: Self) -> Self {
        unsafe {
            Neon([
                vfmaq_f32(c.0[0], self.0[0], b.0[0]),
                vfmaq_f32(c.0[1], self.0[1], b.0[1]),
                vfmaq_f32(c.0[2], self.0[2], b.0[2]),
                vfmaq_f32(c.0[3], self.0[3], b.0[3]),
            ])
        }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, larger)
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Neon(self.0.map(|x| unsafe {
            let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(x));
            vreinterpretq_f32_s32(vaddq_s32(exponent, vdupq_n_s32(127 << 23)))
        }))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let four = self.fold();
        unsafe {
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        let (ab, cd) = (halves_added(a.fold(), b.fold()), halves_added(c.fold(), d.fold()));
        let mut sums = [0.0; 4];
        unsafe { vst1q_f32(sums.as_mut_ptr(), vpaddq_f32(ab, cd)) };
        sums
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let four = larger(larger(self.0[0], self.0[2]), larger(self.0[1], self.0[3]));
        let mut lanes = [0.0f32; 4];
        unsafe { vst1q_f32(lanes.as_mut_ptr(), four) };
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        larger(larger(lanes[0], lanes[2]), larger(lanes[1], lanes[3]))
    }

    #[inline(always)]
    fn prefetch_at<T>(x: &T) {
        prefetch(std::ptr::from_ref(x).cast());
    }

    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let at = bytes.as_mut_ptr();
        unsafe {
            vst1q_u8(at, vreinterpretq_u8_u16(vcombine_u16(narrowed(self.0[0]), narrowed(self.0[1]))));
            vst1q_u8(
                at.add(16),
                vreinterpretq_u8_u16(vcombine_u16(narrowed(self.0[2]), narrowed(self.0[3]))),
            );
        }
        bytes
    }
}

/// `l + (l + 2)` of the one, then of the other.
#[inline(always)]
fn halves_added(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe {
        let low = vcombine_f32(vget_low_f32(a), vget_low_f32(b));
        vaddq_f32(low, vcombine_f32(vget_high_f32(a), vget_high_f32(b)))
    }
}

/// Sixteen bytes as 32-bit integers.
#[inline(always)]
pub(super) fn wide_u8(bytes: &[u8; 16]) -> [uint32x4_t; 4] {
    unsafe {
        let all = vld1q_u8(bytes.as_ptr());
        let (low, high) = (vmovl_u8(vget_low_u8(all)), vmovl_u8(vget_high_u8(all)));
        [
            vmovl_u16(vget_low_u16(low)),
            vmovl_u16(vget_high_u16(low)),
            vmovl_u16(vget_low_u16(high)),
            vmovl_u16(vget_high_u16(high)),
        ]
    }
}

/// Sixteen signed bytes as 32-bit integers.
#[inline(always)]
pub(super) fn wide_i8(bytes: &[u8; 16]) -> [int32x4_t; 4] {
    unsafe {
        let all = vreinterpretq_s8_u8(vld1q_u8(bytes.as_ptr()));
        let (low, high) = (vmovl_s8(vget_low_s8(all)), vmovl_s8(vget_high_s8(all)));
        [
            vmovl_s16(vget_low_s16(low)),
            vmovl_s16(vget_high_s16(low)),
            vmovl_s16(vget_low_s16(high)),
            vmovl_s16(vget_high_s16(high)),
        ]
    }
}
