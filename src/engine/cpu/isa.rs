//! Instruction sets: one is chosen by detection, and a kernel written once over [`Lanes`] is compiled for each.

use super::lanes::{Lanes, Scalar};
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

    /// The instruction set of that name: `scalar`, `avx2`, `avx512`.
    ///
    /// # Errors
    /// Those of [`Isa::detect`].
    pub fn named(name: &str) -> Result<Isa> {
        let set = match name {
            "scalar" => Set::Scalar,
            "avx2" => Set::Avx2,
            "avx512" => Set::Avx512,
            other => {
                return Err(Error::new(
                    Kind::Usage,
                    VARIABLE,
                    format!("there is no instruction set `{other}`"),
                )
                .hint("use scalar, avx2 or avx512, or unset it"));
            }
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
        [Set::Scalar, Set::Avx2, Set::Avx512].into_iter().filter(|s| s.is_here()).map(Isa).collect()
    }

    /// `scalar`, `avx2`, `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            Set::Avx2 => "avx2",
            Set::Avx512 => "avx512",
        }
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
        }
    }

    /// Runs `kernel`; this architecture has portable code only.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run::<Scalar>()
    }
}

impl Set {
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
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_and_say_what_there_is() {
        let error = Isa::named("sse9").expect_err("no such set");
        assert!(error.kind == Kind::Usage && error.to_string().contains("scalar, avx2 or avx512"), "{error}");
    }

    #[test]
    fn every_available_set_has_a_name_that_finds_it() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
    }
}
