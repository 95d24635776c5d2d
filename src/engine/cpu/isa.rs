//! Instruction sets: one is chosen by detection, and a kernel written once over [`Lanes`] is compiled for each.

use super::lanes::{Lanes, Scalar};
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use crate::{Error, Kind, Result};

/// The variable that forces an instruction set.
pub const VARIABLE: &str = "APR_QA_ISA";

/// An instruction set that this processor has: only [`Isa::named`] and [`Isa::detect`] make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Scalar,
    Avx2,
    Avx512,
    Neon,
    NeonDotprod,
}

/// A computation over 16 lanes. `run` must be `#[inline(always)]`, so that it is compiled inside the function that
/// enables the instruction set.
pub(crate) trait Kernel {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

impl Isa {
    /// The best instruction set of this processor, or the one that [`VARIABLE`] names.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an unknown name, [`Kind::Environment`] for a set that this processor lacks.
    pub fn detect() -> Result<Isa> {
        match std::env::var_os(VARIABLE) {
            Some(name) => Isa::named(&name.to_string_lossy()),
            None => Ok(*Isa::available().last().expect("scalar code runs everywhere")),
        }
    }

    /// The instruction set of that name: `scalar`, `avx2`, `avx512`, `neon`, `neon-dotprod`.
    ///
    /// # Errors
    /// Those of [`Isa::detect`].
    pub fn named(name: &str) -> Result<Isa> {
        let Some(set) = Set::ALL.into_iter().find(|set| set.name() == name) else {
            let what = format!("there is no instruction set `{name}`");
            return Err(Error::new(Kind::Usage, VARIABLE, what)
                .hint("use scalar, avx2, avx512, neon or neon-dotprod, or unset it"));
        };
        if !set.is_here() {
            let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
            return Err(Error::new(Kind::Environment, VARIABLE, format!("this processor has no `{name}`"))
                .hint(format!("it has {}", names.join(", "))));
        }
        Ok(Isa(set))
    }

    /// The sets of this processor, slowest first.
    pub fn available() -> Vec<Isa> {
        Set::ALL.into_iter().filter(|set| set.is_here()).map(Isa).collect()
    }

    /// As [`Isa::named`] reads it.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Runs `kernel` compiled for this instruction set.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Scalar => kernel.run::<Scalar>(),
            // SAFETY: an `Isa` exists only where `is_here` found every feature that the function enables.
            Set::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above.
            Set::Avx512 => unsafe { run_avx512(kernel) },
            Set::Neon | Set::NeonDotprod => unreachable!("`is_here` finds no set of another architecture"),
        }
    }

    /// Runs `kernel` compiled for this instruction set.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Scalar => kernel.run::<Scalar>(),
            Set::Neon => kernel.run::<Neon<false>>(),
            // SAFETY: an `Isa` exists only where `is_here` found the feature that the function enables.
            Set::NeonDotprod => unsafe { run_neon_dotprod(kernel) },
            Set::Avx2 | Set::Avx512 => unreachable!("`is_here` finds no set of another architecture"),
        }
    }

    /// Runs `kernel`; this architecture has portable code only.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run::<Scalar>()
    }
}

impl Set {
    /// Slowest first; those of one architecture are here together.
    const ALL: [Set; 5] = [Set::Scalar, Set::Avx2, Set::Avx512, Set::Neon, Set::NeonDotprod];

    fn name(self) -> &'static str {
        match self {
            Set::Scalar => "scalar",
            Set::Avx2 => "avx2",
            Set::Avx512 => "avx512",
            Set::Neon => "neon",
            Set::NeonDotprod => "neon-dotprod",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        let avx2 = || {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
        };
        let avx512 = || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        };
        match self {
            Set::Scalar => true,
            Set::Avx2 => avx2(),
            Set::Avx512 => avx2() && avx512(),
            Set::Neon | Set::NeonDotprod => false,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_here(self) -> bool {
        match self {
            // The standard library runs on no AArch64 processor without NEON.
            Set::Scalar | Set::Neon => true,
            Set::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            Set::Avx2 | Set::Avx512 => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_here(self) -> bool {
        self == Set::Scalar
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "dotprod")]
fn run_neon_dotprod<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Neon<true>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_and_say_what_there_is() {
        let error = Isa::named("sse9").expect_err("no such set");
        assert!(error.kind == Kind::Usage && error.to_string().contains("avx512, neon or neon"), "{error}");
    }

    #[test]
    fn sets_of_another_architecture_are_known_and_not_here() {
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let error = Isa::named(foreign).expect_err("not of this processor");
        assert!(error.kind == Kind::Environment && error.to_string().contains("it has scalar"), "{error}");
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn the_best_set_uses_sdot_where_the_processor_has_it() {
        let best = Isa::available().pop().expect("scalar code runs everywhere");
        let sdot = std::arch::is_aarch64_feature_detected!("dotprod");
        assert_eq!(best.name(), if sdot { "neon-dotprod" } else { "neon" });
    }

    #[test]
    fn every_available_set_has_a_name_that_finds_it() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
    }
}
