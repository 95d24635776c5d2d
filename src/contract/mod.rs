//! The laws as data: `contracts/*.yaml`, typed, with unknown keys refused.
//!
//! [`Contract`] is the owner's APR Format Contract v1 with our extension beside it. Every tolerance, byte, name
//! pattern and invariant id that a gate uses is read from there, and each answer says which file it came from.

mod extension;
pub mod families;
mod format;
pub mod kernels;
pub mod layout;
pub mod numerics;

pub use extension::{EncodingLaw, Extension, Scope};
pub use format::{AprFormat, Invariant};

use crate::tensor::DType;
use crate::{Error, Kind, Result};
use regex::Regex;
use std::path::Path;
use std::sync::OnceLock;

/// Where the built-in owner's contract stands in the repository.
pub const FORMAT_FILE: &str = "contracts/apr-format-v1.yaml";
/// Where the built-in extension stands in the repository.
pub const EXTENSION_FILE: &str = "contracts/apr-format-v1.ext.yaml";

const FORMAT_TEXT: &str = include_str!("../../contracts/apr-format-v1.yaml");
const EXTENSION_TEXT: &str = include_str!("../../contracts/apr-format-v1.ext.yaml");

/// The format contract and its extension, checked against each other.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The owner's document.
    pub format: AprFormat,
    /// What it leaves out.
    pub extension: Extension,
    /// Both texts as read, for the provenance hash.
    pub text: String,
    names: Vec<Regex>,
    format_file: String,
    extension_file: String,
}

/// `|a - b| <= atol + rtol * |reference|`, with the place it is written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Share of the reference's magnitude.
    pub rtol: f64,
    /// `contracts/apr-format-v1.yaml tolerances.Q8_0`.
    pub source: String,
}

impl Tolerance {
    /// How far a value may be from `reference`.
    pub fn around(&self, reference: f64) -> f64 {
        self.atol + self.rtol * reference.abs()
    }
}

impl Contract {
    /// The contract that is built into the program.
    pub fn builtin() -> &'static Contract {
        static BUILTIN: OnceLock<Contract> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Contract::parse(FORMAT_FILE, FORMAT_TEXT, EXTENSION_FILE, EXTENSION_TEXT)
                // The two texts are compiled in, and `the_built_in_contract_loads` parses them.
                .expect("the built-in contract is valid")
        })
    }

    /// The texts of the built-in contract and its extension, for the provenance hash.
    pub fn builtin_text() -> &'static str {
        &Contract::builtin().text
    }

    /// The contract in `folder`, which holds `apr-format-v1.yaml` and `apr-format-v1.ext.yaml`.
    ///
    /// # Errors
    /// [`Kind::Io`] where a file cannot be read, [`Kind::Usage`] where it is no valid contract.
    pub fn from_folder(folder: &Path) -> Result<Contract> {
        let read = |name: &str| {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, &e))?;
            Ok::<_, Error>((path.display().to_string(), text))
        };
        let (format_file, format) = read("apr-format-v1.yaml")?;
        let (extension_file, extension) = read("apr-format-v1.ext.yaml")?;
        Contract::parse(&format_file, &format, &extension_file, &extension)
    }

    fn parse(format_file: &str, format: &str, extension_file: &str, extension: &str) -> Result<Contract> {
        let text = format!("{format}\n{extension}");
        let format = AprFormat::parse(format_file, format)?;
        let extension = Extension::parse(extension_file, extension)?;
        extension.leaves_untouched(extension_file, &format)?;
        let mut names = Vec::new();
        let patterns = std::iter::once(&format.tensor_naming.pattern)
            .chain(extension.tensor_naming.iter().map(|also| &also.pattern));
        for pattern in patterns {
            names.push(Regex::new(pattern).map_err(|e| Error::new(Kind::Usage, format_file, e.to_string()))?);
        }
        let (format_file, extension_file) = (format_file.to_owned(), extension_file.to_owned());
        let contract = Contract { format, extension, text, names, format_file, extension_file };
        contract.check_examples()?;
        Ok(contract)
    }

    /// How the owner's document is called where a limit comes from it.
    pub fn format_source(&self) -> &str {
        &self.format_file
    }

    /// How the extension is called where a limit comes from it.
    pub fn extension_source(&self) -> &str {
        &self.extension_file
    }

    /// Whether a stored tensor name obeys `tensor_naming`.
    pub fn allows_name(&self, name: &str) -> bool {
        self.names.iter().any(|n| n.is_match(name))
    }

    /// The byte that an APR file's index holds for `dtype`, where the contract gives it one.
    pub fn dtype_byte(&self, dtype: DType) -> Option<u8> {
        let owner = self.format.dtype_bytes.mappings.iter().map(|m| (&m.dtype, m.byte));
        let ours = self.extension.dtype_bytes.iter().map(|m| (&m.dtype, m.byte));
        owner.chain(ours).find(|(name, _)| *name == dtype.name()).map(|(_, byte)| byte)
    }

    /// The byte that an APR file's index holds for row tiles of `dtype`, where the contract gives them one.
    pub fn tiled_byte(&self, dtype: DType) -> Option<u8> {
        self.extension.tiled_bytes.iter().find(|m| m.dtype == dtype.name()).map(|m| m.byte)
    }

    /// How far a statistic of a tensor of `dtype` may move.
    pub fn tolerance(&self, dtype: DType) -> Option<Tolerance> {
        let owner = self.format.tolerances.iter().map(|t| (&self.format_file, &t.dtype, t.atol, t.rtol));
        let ours = self.extension.tolerances.iter().map(|t| (&self.extension_file, &t.dtype, t.atol, t.rtol));
        owner.chain(ours).find(|(_, name, ..)| *name == dtype.name()).map(|(file, name, atol, rtol)| {
            Tolerance { atol, rtol, source: format!("{file} tolerances.{name}") }
        })
    }

    /// What `dtype` does to weights at worst and to a model in practice.
    pub fn encoding(&self, dtype: DType) -> Option<&EncodingLaw> {
        self.extension.encodings.iter().find(|e| e.dtype == dtype.name())
    }

    /// The invariant of that gate id, `F-CONTRACT-I4-001`.
    pub fn invariant(&self, gate_id: &str) -> Option<&Invariant> {
        self.format.invariants.iter().find(|i| i.gate_id == gate_id)
    }

    fn check_examples(&self) -> Result<()> {
        let wrong =
            |what: String| Err(Error::new(Kind::Usage, &self.format_file, what).at("tensor_naming.examples"));
        for example in &self.format.tensor_naming.examples {
            if !self.allows_name(&example.canonical) {
                return wrong(format!("the pattern refuses its own example `{}`", example.canonical));
            }
            if self.allows_name(&example.forbidden) {
                return wrong(format!("the pattern allows the forbidden `{}`", example.forbidden));
            }
        }
        for name in self.extension.tensor_naming.iter().flat_map(|also| &also.examples) {
            if !self.allows_name(name) {
                return wrong(format!("the extension's pattern refuses its own example `{name}`"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_contract_loads() {
        let contract = Contract::builtin();
        assert_eq!(contract.format.invariants.len(), 5);
        assert!(contract.text.contains("GH-190"));
    }

    #[test]
    fn every_dtype_byte_is_the_number_that_readers_and_writers_use() {
        let contract = Contract::builtin();
        let mut seen = 0;
        for &dtype in DType::ALL {
            if let Some(byte) = contract.dtype_byte(dtype) {
                assert_eq!(dtype.ggml_id(), Some(u32::from(byte)), "{dtype}");
                seen += 1;
            }
        }
        let written = contract.format.dtype_bytes.mappings.len() + contract.extension.dtype_bytes.len();
        assert_eq!(seen, written, "a mapping names a dtype that this program does not know");
    }

    #[test]
    fn every_dtype_with_a_byte_has_a_tolerance_and_a_law() {
        let contract = Contract::builtin();
        for &dtype in DType::ALL {
            if contract.dtype_byte(dtype).is_some() {
                assert!(contract.tolerance(dtype).is_some(), "{dtype} has no tolerance");
                assert!(contract.encoding(dtype).is_some(), "{dtype} has no law");
            }
        }
        let q8 = contract.tolerance(DType::Q8_0).expect("the contract names Q8_0");
        assert_eq!((q8.atol, q8.rtol), (0.01, 0.01));
        assert!(q8.source.ends_with("apr-format-v1.yaml tolerances.Q8_0"), "{}", q8.source);
    }

    #[test]
    fn names_follow_the_owner_s_pattern_and_the_extension() {
        let contract = Contract::builtin();
        for good in [
            "0.q_proj.weight",
            "11.q_proj.bias",
            "token_embd.weight",
            "output.weight",
            "position_embd.weight",
        ] {
            assert!(contract.allows_name(good), "{good}");
        }
        for bad in
            ["model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", "x.q_proj.weight", "output"]
        {
            assert!(!contract.allows_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_contract_in_a_folder_names_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Contract::from_folder(dir.path()).unwrap_err();
        assert!(missing.kind == Kind::Io && missing.to_string().contains("apr-format-v1.yaml"), "{missing}");
        let stricter = FORMAT_TEXT.replace("\"Q8_0\", atol: 0.01,", "\"Q8_0\", atol: 0.005,");
        std::fs::write(dir.path().join("apr-format-v1.yaml"), stricter).unwrap();
        std::fs::write(dir.path().join("apr-format-v1.ext.yaml"), EXTENSION_TEXT).unwrap();
        let contract = Contract::from_folder(dir.path()).unwrap();
        let q8 = contract.tolerance(DType::Q8_0).expect("the contract names Q8_0");
        // The columns of the owner's table are aligned with spaces, so the replacement must have found its line.
        assert_eq!(q8.atol, 0.005);
        assert!(q8.source.starts_with(&dir.path().display().to_string()), "{}", q8.source);
    }

    #[test]
    fn the_extension_may_not_change_the_owner_s_values() {
        let changed = EXTENSION_TEXT.replace("dtype: \"Q4_1\", byte: 3", "dtype: \"Q8_0\", byte: 3");
        let err = Contract::parse(FORMAT_FILE, FORMAT_TEXT, EXTENSION_FILE, &changed).unwrap_err();
        assert_eq!(err.kind, Kind::Usage);
        assert!(err.to_string().contains("Q8_0"), "{err}");
    }

    #[test]
    fn the_byte_of_tiles_follows_from_that_of_the_blocks() {
        for wrong in
            ["dtype: \"Q4_0\", byte: 0xA3", "dtype: \"Q4_0\", byte: 2", "dtype: \"IQ4_NL\", byte: 0xB4"]
        {
            let changed = EXTENSION_TEXT.replace("dtype: \"Q4_0\", byte: 0xA2", wrong);
            assert_ne!(changed, EXTENSION_TEXT);
            let err = Contract::parse(FORMAT_FILE, FORMAT_TEXT, EXTENSION_FILE, &changed).unwrap_err();
            assert!(err.kind == Kind::Usage && err.to_string().contains("tiles of"), "{err}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let text = FORMAT_TEXT.replace("implemented: true", "implemented: true\n    enforced: true");
        let err = Contract::parse(FORMAT_FILE, &text, EXTENSION_FILE, EXTENSION_TEXT).unwrap_err();
        assert!(err.to_string().contains("enforced"), "{err}");
    }

    #[test]
    fn an_unknown_dtype_is_an_error() {
        let text = FORMAT_TEXT.replace("dtype: \"Q2_K\", byte: 10", "dtype: \"Q2_X\", byte: 10");
        let err = Contract::parse(FORMAT_FILE, &text, EXTENSION_FILE, EXTENSION_TEXT).unwrap_err();
        assert!(err.to_string().contains("Q2_X"), "{err}");
    }
}
