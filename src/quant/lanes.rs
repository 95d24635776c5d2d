//! Sixteen f32 lanes, the unit in which the searching quantisers are written: one sub-block or one element a lane.
//!
//! Each operation is one IEEE 754 rounding per lane and none is fused, so every instruction set gives the bytes of
//! scalar code. A kernel is written once over [`Lanes`] and compiled for each [`Isa`].

#[cfg(target_arch = "aarch64")]
use super::lanes_neon::Neon;
#[cfg(target_arch = "x86_64")]
use super::lanes_x86::{Avx2, Avx512};
use super::rounding::{nearest, truncate};
use std::array::from_fn;

/// Lanes in a vector, whatever the registers of the machine.
pub(super) const WIDTH: usize = 16;

/// Sixteen f32 values.
pub(super) trait Lanes: Copy {
    /// One truth value a lane.
    type Mask: Copy;

    fn splat(x: f32) -> Self;
    fn load(x: &[f32; WIDTH]) -> Self;
    fn to_array(self) -> [f32; WIDTH];

    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    /// `self < b ? self : b`.
    fn min(self, b: Self) -> Self;
    /// `self > b ? self : b`.
    fn max(self, b: Self) -> Self;
    /// The nearest integer as [`nearest`] finds it, then clamped to `low..=high`, as a float.
    fn nearest_within(self, low: i32, high: i32) -> Self;
    /// As [`truncate`].
    fn truncated(self) -> [i32; WIDTH];
    /// Away from zero by just under a half, so that [`Lanes::truncated`] then rounds to the nearest, ties away
    /// from zero. Exact below 2^22.
    fn away_from_zero(self) -> Self;

    fn lt(self, b: Self) -> Self::Mask;
    fn ne(self, b: Self) -> Self::Mask;
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Bit `l` is lane `l`.
    fn bits(mask: Self::Mask) -> u32;
}

/// A computation over lanes. `run` and all it calls must be `#[inline(always)]`, so that it is compiled inside the
/// function that enables the instruction set; for the same reason no closure may touch lanes.
pub(super) trait Kernel {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

/// An instruction set that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    /// Plain Rust.
    Portable,
    /// Two registers of eight lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// One register.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Four registers of four lanes.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// Slowest first.
    const ALL: &[Isa] = &[
        Isa::Portable,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon,
    ];

    fn is_here(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq"),
            // The standard library runs on no AArch64 processor without it.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
        }
    }

    /// The fastest one of this processor.
    pub(super) fn best() -> Isa {
        #[cfg(test)]
        if let Some(isa) = FORCED.get() {
            return isa;
        }
        let here = Isa::ALL.iter().rev().find(|isa| isa.is_here());
        here.copied().unwrap_or(Isa::Portable)
    }

    /// Runs `kernel` on the fastest instruction set of this processor.
    pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
        match Isa::best() {
            Isa::Portable => kernel.run::<Portable>(),
            // SAFETY: `best` found the features that the function enables.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { run_avx512(kernel) },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel.run::<Neon>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx2")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// The definition: plain loops over an array.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; WIDTH]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(from_fn(|l| f(self.0[l], b.0[l])))
    }

    #[inline(always)]
    fn test(self, b: Self, f: impl Fn(f32, f32) -> bool) -> [bool; WIDTH] {
        from_fn(|l| f(self.0[l], b.0[l]))
    }
}

impl Lanes for Portable {
    type Mask = [bool; WIDTH];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Portable([x; WIDTH])
    }

    #[inline(always)]
    fn load(x: &[f32; WIDTH]) -> Self {
        Portable(*x)
    }

    #[inline(always)]
    fn to_array(self) -> [f32; WIDTH] {
        self.0
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Portable(self.0.map(f32::sqrt))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Portable(self.0.map(f32::abs))
    }

    #[inline(always)]
    fn neg(self) -> Self {
        Portable(self.0.map(|a| -a))
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn nearest_within(self, low: i32, high: i32) -> Self {
        Portable(self.0.map(|a| nearest(a).max(low).min(high) as f32))
    }

    #[inline(always)]
    fn truncated(self) -> [i32; WIDTH] {
        self.0.map(truncate)
    }

    #[inline(always)]
    fn away_from_zero(self) -> Self {
        Portable(self.0.map(|a| a + 0.5f32.next_down().copysign(a)))
    }

    #[inline(always)]
    fn lt(self, b: Self) -> [bool; WIDTH] {
        self.test(b, |a, b| a < b)
    }

    #[inline(always)]
    fn ne(self, b: Self) -> [bool; WIDTH] {
        self.test(b, |a, b| a != b)
    }

    #[inline(always)]
    fn both(a: [bool; WIDTH], b: [bool; WIDTH]) -> [bool; WIDTH] {
        from_fn(|l| a[l] & b[l])
    }

    #[inline(always)]
    fn select(mask: [bool; WIDTH], yes: Self, no: Self) -> Self {
        Portable(from_fn(|l| if mask[l] { yes.0[l] } else { no.0[l] }))
    }

    #[inline(always)]
    fn bits(mask: [bool; WIDTH]) -> u32 {
        mask.iter().enumerate().fold(0, |bits, (l, m)| bits | u32::from(*m) << l)
    }
}

#[cfg(test)]
thread_local! {
    /// What [`Isa::best`] answers on this thread instead of the best.
    static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` once on every instruction set of this processor.
#[cfg(test)]
pub(super) fn on_every_isa(mut work: impl FnMut(Isa)) {
    for isa in Isa::ALL.iter().copied().filter(|isa| isa.is_here()) {
        FORCED.set(Some(isa));
        work(isa);
    }
    FORCED.set(None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix;

    /// Every operation on the same values, as bits; all NaN are one.
    struct Everything<'a>([&'a [f32; WIDTH]; 2]);

    impl Kernel for Everything<'_> {
        type Output = Vec<u32>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u32> {
            let (a, b) = (L::load(self.0[0]), L::load(self.0[1]));
            let mut bits = Vec::new();
            for vector in [
                L::splat(self.0[0][3]),
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.sqrt(),
                a.abs(),
                a.neg(),
                a.min(b),
                a.max(b),
                a.nearest_within(-31, 15),
                a.away_from_zero(),
                L::select(L::both(a.lt(b), a.ne(L::splat(1.0))), a, b),
            ] {
                bits.extend(vector.to_array().map(|x| if x.is_nan() { f32::NAN } else { x }.to_bits()));
            }
            bits.extend(a.truncated().map(|x| x as u32));
            bits.extend([L::bits(a.lt(b)), L::bits(a.ne(b))]);
            bits
        }
    }

    #[test]
    fn every_operation_gives_the_bits_of_portable_code() {
        let special =
            [0.0, -0.0, f32::NAN, f32::INFINITY, -f32::INFINITY, 1e-40, 0.5, 2.5, 2_147_483_648.0, -3e9];
        let mut random = SplitMix(1);
        for _ in 0..500 {
            let mut values = || -> [f32; WIDTH] {
                from_fn(|_| match (random.bits() % 4, random.bits()) {
                    (0, pick) => special[pick as usize % special.len()],
                    (1, any) => f32::from_bits(any as u32),
                    _ => 40.0 * random.unit() as f32 - 20.0,
                })
            };
            let (a, b) = (values(), values());
            let (mut expected, mut sets) = (None, 0);
            on_every_isa(|isa| {
                let found = Isa::run(Everything([&a, &b]));
                let expected = expected.get_or_insert_with(|| found.clone());
                let apart = found.iter().zip(&*expected).position(|(a, b)| a != b);
                assert!(
                    found.len() == expected.len() && apart.is_none(),
                    "{isa:?} at {apart:?}, {a:?}, {b:?}"
                );
                sets += 1;
            });
            assert!(sets > 0);
        }
    }
}
