//! Instruction peaks: multiply-adds on registers alone, enough of them side by side to hide their latency.

use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH};
use std::hint::black_box;

/// Turns of a loop: about a millisecond, twenty times what threads need to start together.
const TURNS: u64 = 1 << 18;

/// Turns in scalar code, whose fused multiply-add may be a function call.
const SCALAR_TURNS: u64 = 1 << 11;

/// Accumulators in sixteen-lane vectors where registers hold one each; half as many where one takes two.
const CHAINS: usize = 12;

/// An instruction that products of weights and activations are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peak {
    /// f32 fused multiply-add.
    Fma,
    /// Products of bytes, summed in i32.
    Int8,
    /// Products of bfloat16, summed in f32.
    Bf16,
}

impl Peak {
    /// Operations of one [`Peak::run`], two for a multiply-add; `None` where the instruction set lacks it.
    pub(super) fn operations(self, isa: Isa) -> Option<u64> {
        let vectors =
            |turns: u64, chains: usize, products: usize| Some(turns * (chains * products * 2) as u64);
        let avx512 = isa.name() == "avx512";
        let neon = isa.name().starts_with("neon");
        match self {
            Peak::Fma if isa.name() == "scalar" => vectors(SCALAR_TURNS, CHAINS / 2, WIDTH),
            Peak::Fma => vectors(TURNS, if avx512 { CHAINS } else { CHAINS / 2 }, WIDTH),
            Peak::Int8 if avx512 && has_vnni() => vectors(TURNS, CHAINS, 64),
            Peak::Int8 if neon => vectors(TURNS, CHAINS, 16),
            Peak::Int8 if avx512 || isa.name() == "avx2" => vectors(TURNS, CHAINS, 32),
            Peak::Bf16 if avx512 && has_bf16() => vectors(TURNS, CHAINS, 32),
            Peak::Int8 | Peak::Bf16 => None,
        }
    }

    /// Executes it as often as [`Peak::operations`] says.
    pub(super) fn run(self, isa: Isa) {
        match self {
            Peak::Fma => {
                black_box(isa.run(Fma { turns: if isa.name() == "scalar" { SCALAR_TURNS } else { TURNS } }));
            }
            Peak::Int8 | Peak::Bf16 if self.operations(isa).is_none() => {}
            Peak::Int8 => int8(isa),
            Peak::Bf16 => bf16(),
        }
    }
}

struct Fma {
    turns: u64,
}

impl Kernel for Fma {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
        if L::LARGE_TILES { fma::<L, CHAINS>(self.turns) } else { fma::<L, { CHAINS / 2 }>(self.turns) }
    }
}

#[inline(always)]
fn fma<L: Lanes, const N: usize>(turns: u64) -> f32 {
    // Factors below 1 keep every chain finite and away from slow tiny numbers.
    let (factor, addend) = (L::splat(black_box(0.5)), L::splat(black_box(1.0)));
    let mut chains = [addend; N];
    for _ in 0..turns {
        for chain in &mut chains {
            *chain = chain.fma(factor, addend);
        }
    }
    let mut all = L::splat(0.0);
    for chain in chains {
        all = all.add(chain);
    }
    all.sum()
}

#[cfg(target_arch = "x86_64")]
use x86::{bf16, has_bf16, has_vnni, int8};

#[cfg(target_arch = "aarch64")]
use neon::{bf16, has_bf16, has_vnni, int8};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use portable::{bf16, has_bf16, has_vnni, int8};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, Isa, TURNS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    pub(super) fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512vnni")
    }

    pub(super) fn has_bf16() -> bool {
        is_x86_feature_detected!("avx512bf16")
    }

    /// Call it only where [`super::Peak::operations`] has a number.
    pub(super) fn int8(isa: Isa) {
        if isa.name() == "avx512" && has_vnni() {
            // SAFETY: an `Isa` of that name exists only where the processor has its features, and VNNI was just found.
            unsafe { vnni() }
        } else {
            // SAFETY: both instruction sets that come here have AVX2.
            unsafe { maddubs() }
        }
    }

    /// Call it only where [`super::Peak::operations`] has a number.
    pub(super) fn bf16() {
        if has_bf16() {
            // SAFETY: it was just found; it implies AVX-512F.
            unsafe { dpbf16() }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn vnni() {
        let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
        let mut chains = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..TURNS {
            for chain in &mut chains {
                *chain = _mm512_dpbusd_epi32(*chain, a, b);
            }
        }
        for chain in chains {
            black_box(_mm512_reduce_add_epi32(chain));
        }
    }

    /// What AVX2 has instead: pairs of bytes to i16, pairs of those to i32, and an addition.
    #[target_feature(enable = "avx2")]
    fn maddubs() {
        let ones = _mm256_set1_epi16(black_box(1));
        let b = _mm256_set1_epi8(black_box(5));
        let mut chains = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..TURNS {
            for chain in &mut chains {
                // The chain itself is a factor, else the products would be computed once for all turns.
                let pairs = _mm256_maddubs_epi16(*chain, b);
                *chain = _mm256_add_epi32(*chain, _mm256_madd_epi16(pairs, ones));
            }
        }
        for chain in chains {
            black_box(_mm256_extract_epi32::<0>(chain));
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dpbf16() {
        // 0x3f00 is 0.5: the sums grow slowly and stay finite.
        let halves = _mm512_set1_epi16(black_box(0x3f00));
        // SAFETY: both are 64 bytes, and every pattern of bits is a value of either.
        let factors: __m512bh = unsafe { std::mem::transmute(halves) };
        let mut chains = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..TURNS {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, factors, factors);
            }
        }
        for chain in chains {
            black_box(_mm512_reduce_add_ps(chain));
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::super::quads_neon::dot4;
    use super::{CHAINS, Isa, TURNS};
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// The products of kernels are those of [`super::Peak::Int8`], whatever the processor has beside.
    pub(super) fn has_vnni() -> bool {
        false
    }

    pub(super) fn has_bf16() -> bool {
        false
    }

    /// Call it only where [`super::Peak::operations`] has a number.
    pub(super) fn int8(isa: Isa) {
        if isa.name() == "neon-dotprod" {
            // SAFETY: an `Isa` of that name exists only where the processor has the feature.
            unsafe { sdot() }
        } else {
            multiply::<false>();
        }
    }

    pub(super) fn bf16() {}

    #[target_feature(enable = "dotprod")]
    fn sdot() {
        multiply::<true>();
    }

    #[inline(always)]
    fn multiply<const SDOT: bool>() {
        // SAFETY: NEON is part of the target.
        unsafe {
            let b = vdupq_n_s8(black_box(5));
            let mut chains = [vdupq_n_s32(black_box(1)); CHAINS];
            for _ in 0..TURNS {
                for chain in &mut chains {
                    // The chain itself is a factor, else the products would be computed once for all turns.
                    *chain = dot4::<SDOT>(*chain, vreinterpretq_u8_s32(*chain), b);
                }
            }
            for chain in chains {
                black_box(vaddvq_s32(chain));
            }
        }
    }
}

/// No instruction set of these architectures comes here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod portable {
    use super::Isa;

    pub(super) fn has_vnni() -> bool {
        false
    }

    pub(super) fn has_bf16() -> bool {
        false
    }

    pub(super) fn int8(_isa: Isa) {}

    pub(super) fn bf16() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_fma_and_runs_what_it_has() {
        for isa in Isa::available() {
            assert!(Peak::Fma.operations(isa).is_some());
            for peak in [Peak::Fma, Peak::Int8, Peak::Bf16] {
                peak.run(isa);
            }
            assert_eq!(Peak::Int8.operations(isa).is_some(), isa.name() != "scalar");
        }
    }

    #[test]
    fn chains_compute_what_they_say() {
        // 1, 1.5, 1.75 ...: 2 - 2^-turns in each of 16 lanes of every chain.
        for isa in Isa::available() {
            let chains = if isa.name() == "avx512" { CHAINS } else { CHAINS / 2 };
            assert_eq!(isa.run(Fma { turns: 3 }), 1.875 * (WIDTH * chains) as f32, "{}", isa.name());
        }
    }
}
