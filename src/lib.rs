//! Declarative QA for model conversions.
//!
//! A YAML playbook names models, artifacts and gates; an embedded converter makes the artifacts, an
//! embedded engine runs them, and every gate leaves a verdict with its evidence. The layers are those
//! of `ARCHITECTURE.md`; arrows point down only (`tests/tidy.rs` checks it).

// L0: plain data.
pub mod error;
pub mod record;
pub mod tensor;
// L1
pub mod contract;
pub mod oracle;
pub mod playbook;
pub mod quant;
pub mod report;
pub mod stats;
// L2
pub mod engine;
pub mod formats;
pub mod tokenizer;
// L3
pub mod convert;
pub mod models;
// L4
pub mod infer;
pub mod inspect;
pub mod mutate;
// L5
pub mod subject;
// L6
pub mod gates;
// L7
pub mod runner;
// L8
pub mod cli;

pub use error::{Error, Kind, Result};
