//! Kernel contracts: what an operation computes, in which order it rounds, and how far a backend may be from the
//! reference. One file per operation in `contracts/kernels/`.

use crate::{Error, Kind, Result};
use serde::Deserialize;
use std::collections::BTreeSet;

macro_rules! kernels {
    ($($name:literal),* $(,)?) => {
        /// Every kernel contract: its name and its text.
        const TEXTS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../contracts/kernels/", $name, ".yaml")))),*];
    };
}

kernels!(
    "attention",
    "dequantize",
    "embedding",
    "gelu",
    "kv_cache",
    "layer_norm",
    "matmul",
    "matmul_fast",
    "matmul_half",
    "matmul_wide",
    "quantize_activations",
    "quantize_activations_wide",
    "residual",
    "rms_norm",
    "rope",
    "round_activations_half",
    "sampling",
    "silu",
    "softmax",
    "swiglu",
);

/// One operation's contract.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The file's name.
    pub name: String,
    /// Of the text.
    pub version: String,
    /// The operations of the engine's `Backend` that obey it; none for what runs outside a backend.
    pub operations: Vec<String>,
    /// Papers and implementations that the equations come from.
    pub references: Vec<String>,
    /// What is computed.
    pub equations: Vec<Equation>,
    /// Which inputs it holds for.
    pub domain: String,
    /// The one order in which every backend of exact numerics on the processor rounds, but the reference. On a GPU the
    /// order stands at the head of the kernel, and the tolerance is the same.
    pub reduction_order: String,
    /// How far such a backend may be from the reference, which sums in f64 and rounds once.
    pub tolerance: KernelTolerance,
    /// How each claim would be refuted.
    pub falsification_tests: Vec<FalsificationTest>,
}

/// An equation by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equation {
    /// Short name.
    pub name: String,
    /// In plain text.
    pub formula: String,
}

/// `|found - reference| <= max_error * scale`, for every element.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelTolerance {
    /// Share of the scale.
    pub max_error: f64,
    /// What the scale is.
    pub relative_to: Scale,
    /// Where the number comes from.
    pub reason: String,
}

/// What an error is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The largest magnitude of the reference's output.
    Largest,
    /// 1: the outputs are probabilities.
    One,
}

/// A test that would refute a claim.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalsificationTest {
    /// Unique over all contracts, `FALSIFY-MM-001`.
    pub id: String,
    /// What it is about.
    pub rule: String,
    /// What holds as long as the contract does.
    pub prediction: String,
    /// The path of a test of this crate.
    pub test: String,
    /// What a failure means.
    pub if_fails: String,
}

impl Kernel {
    /// The built-in contract of that name.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an unknown name, or a text that is no such contract.
    pub fn load(name: &str) -> Result<Kernel> {
        let (_, text) = TEXTS.iter().find(|(n, _)| *n == name).ok_or_else(|| {
            Error::new(Kind::Usage, format!("kernel contract `{name}`"), "there is no such contract")
                .hint(format!("known: {}", Kernel::names().join(", ")))
        })?;
        let file = format!("contracts/kernels/{name}.yaml");
        let kernel: Kernel =
            serde_yaml::from_str(text).map_err(|e| Error::new(Kind::Usage, &file, e.to_string()))?;
        kernel.check(name).map_err(|what| Error::new(Kind::Usage, &file, what))?;
        Ok(kernel)
    }

    /// The names of all contracts.
    pub fn names() -> Vec<&'static str> {
        TEXTS.iter().map(|(name, _)| *name).collect()
    }

    fn check(&self, name: &str) -> Result<(), String> {
        if self.name != name {
            return Err(format!("the name is `{}`", self.name));
        }
        let texts = [&self.version, &self.domain, &self.reduction_order, &self.tolerance.reason];
        let tests =
            self.falsification_tests.iter().flat_map(|t| [&t.rule, &t.prediction, &t.test, &t.if_fails]);
        let equations = self.equations.iter().flat_map(|e| [&e.name, &e.formula]);
        if texts
            .into_iter()
            .chain(tests)
            .chain(equations)
            .chain(&self.references)
            .any(|t| t.trim().is_empty())
        {
            return Err("a text is empty".to_owned());
        }
        if self.references.is_empty() || self.equations.is_empty() || self.falsification_tests.is_empty() {
            return Err("it needs a reference, an equation and a falsification test".to_owned());
        }
        let ids: BTreeSet<_> = self.falsification_tests.iter().map(|t| &t.id).collect();
        if ids.len() != self.falsification_tests.len() {
            return Err("two falsification tests share an id".to_owned());
        }
        if !(0.0..1.0).contains(&self.tolerance.max_error) {
            return Err(format!("a tolerance of {} bounds nothing", self.tolerance.max_error));
        }
        Ok(())
    }
}

impl KernelTolerance {
    /// The largest allowed error of any element, given the reference's output.
    pub fn bound(&self, reference: &[f32]) -> f64 {
        let scale = match self.relative_to {
            Scale::One => 1.0,
            Scale::Largest => reference.iter().fold(0.0, |m: f64, r| m.max(f64::from(r.abs()))),
        };
        self.max_error * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_contract_loads_and_every_file_is_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/kernels");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|e| e.expect("readable").path().file_stem().expect("a file").to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, Kernel::names());
        let mut ids = BTreeSet::new();
        for name in Kernel::names() {
            for test in Kernel::load(name).expect("valid").falsification_tests {
                assert!(ids.insert(test.id.clone()), "{} stands twice", test.id);
            }
        }
    }

    /// A backend cannot gain an operation without a law for it, and no law speaks of one that does not exist.
    #[test]
    fn every_operation_of_a_backend_has_its_contract() {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/mod.rs");
        let text = std::fs::read_to_string(engine).expect("the engine's own file");
        let after = text.split_once("pub trait Backend").expect("the trait stands there").1;
        let body = after.split_once("\n}\n").expect("it ends").0;
        let name = |line: &str| {
            let rest = line.trim().strip_prefix("fn ")?;
            Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        };
        let operations: BTreeSet<String> = body.lines().filter_map(name).collect();
        assert!(operations.len() > 12, "{operations:?}");
        // What moves data and computes nothing.
        let plumbing = [
            "name",
            "device",
            "is_lost",
            "numerics",
            "product_rule",
            "begin_profile",
            "end_profile",
            "vector",
            "buffer",
            "upload",
            "download",
            "cache",
            "chosen",
            "read_chosen",
        ];
        let mut lawful = BTreeSet::new();
        for kernel in Kernel::names() {
            lawful.extend(Kernel::load(kernel).expect("valid").operations);
        }
        let lawless: Vec<_> =
            operations.iter().filter(|o| !plumbing.contains(&o.as_str()) && !lawful.contains(*o)).collect();
        assert!(
            lawless.is_empty(),
            "no contract in contracts/kernels names {lawless:?} among its operations"
        );
        let unknown: Vec<_> = lawful.difference(&operations).collect();
        assert!(unknown.is_empty(), "no backend has {unknown:?}");
    }

    #[test]
    fn every_falsification_test_exists() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for name in Kernel::names() {
            for FalsificationTest { id, test, .. } in Kernel::load(name).expect("valid").falsification_tests {
                let mut parts: Vec<&str> = test.split("::").collect();
                let function = parts.pop().expect("a path has a last part");
                parts.retain(|p| *p != "tests");
                let file = src.join(parts.join("/"));
                let text = std::fs::read_to_string(file.with_extension("rs"))
                    .or_else(|_| std::fs::read_to_string(file.join("mod.rs")))
                    .unwrap_or_else(|e| panic!("{id}: {test}: {e}"));
                assert!(
                    text.contains(&format!("#[test]\n    fn {function}()"))
                        || text.contains(&format!("#[test]\nfn {function}()")),
                    "{id}: no test `{test}`"
                );
            }
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = Kernel::load("conv").expect_err("no such kernel");
        assert!(error.kind == Kind::Usage && error.to_string().contains("matmul"), "{error}");
    }
}
