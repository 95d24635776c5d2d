//! [`Quads`] in NEON: four registers of four rows. Weights are multiplied as signed bytes, by SDOT where the processor
//! has it, else by products of 16 bits.

// SAFETY, for every block below: as in `neon.rs`. SDOT stands in kernels for `Neon<true>` only, which `Isa::run` runs
// inside a function that enables it, on a processor that was found to have it.

use super::neon::{Neon, wide_i8, wide_u8};
use super::quads::Quads;
use std::arch::aarch64::*;
use std::arch::asm;

/// Rows 0..4, 4..8, 8..12 and 12..16, four bytes each.
#[derive(Clone, Copy)]
pub(super) struct Bytes([uint8x16_t; 4]);

/// The same rows, one integer each.
#[derive(Clone, Copy)]
pub(super) struct Ints([int32x4_t; 4]);

/// Four rows of `sums + w[0] x[0] + .. + w[3] x[3]`. Its intrinsic is not stable.
#[inline(always)]
fn sdot(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sums, in(vreg) w, in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

/// The same: products as i16 and pairs of them, which 2 * 128 * 127 does not leave, then pairs of those.
#[inline(always)]
fn widening(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    unsafe {
        let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(w, x)))
    }
}

/// Either of them. With `SDOT`, it is to be called inside a function that enables the instruction.
#[inline(always)]
pub(super) fn dot4<const SDOT: bool>(sums: int32x4_t, w: uint8x16_t, x: int8x16_t) -> int32x4_t {
    let w = unsafe { vreinterpretq_s8_u8(w) };
    if SDOT { sdot(sums, w, x) } else { widening(sums, w, x) }
}

impl<const SDOT: bool> Quads for Neon<SDOT> {
    const RAISES: bool = false;

    type Bytes = Bytes;
    type Ints = Ints;

    #[inline(always)]
    fn bytes(at: &[u8; 64]) -> Bytes {
        let at = at.as_ptr();
        unsafe { Bytes([vld1q_u8(at), vld1q_u8(at.add(16)), vld1q_u8(at.add(32)), vld1q_u8(at.add(48))]) }
    }

    #[inline(always)]
    fn store_bytes(bytes: Bytes, out: &mut [u8; 64]) {
        let at = out.as_mut_ptr();
        unsafe {
            vst1q_u8(at, bytes.0[0]);
            vst1q_u8(at.add(16), bytes.0[1]);
            vst1q_u8(at.add(32), bytes.0[2]);
            vst1q_u8(at.add(48), bytes.0[3]);
        }
    }

    #[inline(always)]
    fn field<const MASK: u8>(bytes: Bytes, shift: i32) -> Bytes {
        // A shift by a negative count goes right.
        Bytes(bytes.0.map(|b| unsafe { vandq_u8(vshlq_u8(b, vdupq_n_s8(-shift as i8)), vdupq_n_u8(MASK)) }))
    }

    #[inline(always)]
    fn or(a: Bytes, b: Bytes) -> Bytes {
        unsafe {
            Bytes([
                vorrq_u8(a.0[0], b.0[0]),
                vorrq_u8(a.0[1], b.0[1]),
                vorrq_u8(a.0[2], b.0[2]),
                vorrq_u8(a.0[3], b.0[3]),
            ])
        }
    }

    #[inline(always)]
    fn raised(bytes: Bytes) -> Bytes {
        bytes
    }

    #[inline(always)]
    fn dot(sums: Ints, w: Bytes, x: i32) -> Ints {
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
            Ints([
                dot4::<SDOT>(sums.0[0], w.0[0], x),
                dot4::<SDOT>(sums.0[1], w.0[1], x),
                dot4::<SDOT>(sums.0[2], w.0[2], x),
                dot4::<SDOT>(sums.0[3], w.0[3], x),
            ])
        }
    }

    #[inline(always)]
    fn dot_wide(sums: Ints, w: Bytes, x: i32) -> Ints {
        Self::dot(sums, w, x)
    }

    #[inline(always)]
    fn splat_int(x: i32) -> Ints {
        unsafe { Ints([vdupq_n_s32(x); 4]) }
    }

    #[inline(always)]
    fn ints_from_u8(bytes: &[u8; 16]) -> Ints {
        Ints(wide_u8(bytes).map(|x| unsafe { vreinterpretq_s32_u32(x) }))
    }

    #[inline(always)]
    fn ints_from_i8(bytes: &[u8; 16]) -> Ints {
        Ints(wide_i8(bytes))
    }

    #[inline(always)]
    fn add_ints(a: Ints, b: Ints) -> Ints {
        unsafe {
            Ints([
                vaddq_s32(a.0[0], b.0[0]),
                vaddq_s32(a.0[1], b.0[1]),
                vaddq_s32(a.0[2], b.0[2]),
                vaddq_s32(a.0[3], b.0[3]),
            ])
        }
    }

    #[inline(always)]
    fn or_ints(a: Ints, b: Ints) -> Ints {
        unsafe {
            Ints([
                vorrq_s32(a.0[0], b.0[0]),
                vorrq_s32(a.0[1], b.0[1]),
                vorrq_s32(a.0[2], b.0[2]),
                vorrq_s32(a.0[3], b.0[3]),
            ])
        }
    }

    #[inline(always)]
    fn field_ints<const MASK: i32>(x: Ints, shift: i32) -> Ints {
        Ints(x.0.map(|x| unsafe { vandq_s32(vshlq_s32(x, vdupq_n_s32(-shift)), vdupq_n_s32(MASK)) }))
    }

    #[inline(always)]
    fn shift_ints(x: Ints, n: i32) -> Ints {
        Ints(x.0.map(|x| unsafe { vshlq_s32(x, vdupq_n_s32(-n)) }))
    }

    #[inline(always)]
    fn low_bytes(x: Ints) -> [u8; 16] {
        let mut low = [0; 16];
        unsafe {
            let narrow = |x: int32x4_t| vmovn_u32(vreinterpretq_u32_s32(x));
            let first = vcombine_u16(narrow(x.0[0]), narrow(x.0[1]));
            let last = vcombine_u16(narrow(x.0[2]), narrow(x.0[3]));
            vst1q_u8(low.as_mut_ptr(), vcombine_u8(vmovn_u16(first), vmovn_u16(last)));
        }
        low
    }

    #[inline(always)]
    fn from_ints(x: Ints) -> Self {
        Neon(x.0.map(|x| unsafe { vcvtq_f32_s32(x) }))
    }

    #[inline(always)]
    fn round(self) -> Ints {
        Ints(self.0.map(|x| unsafe { vcvtnq_s32_f32(x) }))
    }
}
