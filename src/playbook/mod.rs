//! Playbooks: typed YAML, parsed with line and column, expanded into cases. No I/O, no gate is known here.
//!
//! `schema` is what stands in the file, `plan` expands it. Names of gates and backends are checked by a
//! [`Catalog`] that the runner passes in, so that a misspelt gate is an error on its line before anything runs.

mod backend_use;
mod check;
mod compose;
mod detection;
mod diagnostics;
mod estimate;
mod explain;
mod filter;
#[cfg(test)]
mod fixture;
mod ground;
mod list;
mod located;
mod names;
mod parse;
mod plan;
mod prompts;
mod references;
mod scalars;
mod schema;
mod schema_json;
mod settings;
mod source;
mod suggest;
mod tree;

pub use backend_use::BackendUse;
pub use compose::{Asked, Comparison, REFERENCE, fitting};
pub use detection::{CLEAN, DETECTION, Probe};
pub use diagnostics::{Diagnostic, Diagnostics};
pub use estimate::Estimate;
pub use explain::{Explanation, FileSizes, explain};
pub use filter::Filter;
pub use ground::Ground;
pub use list::{list, list_json};
pub use located::{At, Entries, Located, NAME_PATTERN};
pub use parse::{parse, parse_bytes};
pub use plan::plan;
pub use schema::{
    Artifact, DEFAULT_TOKENS, Detection, Dialect, Expect, Format, GateUse, KnownMiss, Layout, Model, Names,
    Origin, ParamValue, Playbook, Policy, Prompt, Reports, Runtime, Seconds,
};
pub use schema_json::json_schema;
pub use source::Source;
pub use tree::LARGEST_FILE;

use std::collections::BTreeMap;

/// What the runner knows and the planner must ask.
pub trait Catalog {
    /// The gate of that id.
    fn gate(&self, id: &str) -> Option<GateInfo>;
    /// All gate ids, for suggestions.
    fn gate_ids(&self) -> Vec<&'static str>;
    /// All backend names, for suggestions and checks.
    fn backend_names(&self) -> Vec<&'static str>;
    /// Whether the gate scores the model's whole text (perplexity); `explain` estimates its time by it.
    fn reads_text(&self, gate: &str) -> bool {
        let _ = gate;
        false
    }
    /// The defects that can be planted, in the order of their catalogue.
    fn defects(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether that defect can be in an artifact of which the playbook says this much.
    fn defect_applies(&self, defect: &str, ground: &Ground) -> bool {
        let _ = (defect, ground);
        false
    }
    /// The gates that detection asks where the playbook names none.
    fn battery(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// What the planner needs to know of a gate.
#[derive(Debug, Clone)]
pub struct GateInfo {
    /// Its id.
    pub id: &'static str,
    /// Whether one case per prompt, or one per artifact.
    pub per_prompt: bool,
    /// Whether it runs the model (one case per backend) or reads files only (one case).
    pub needs_backend: bool,
    /// Whether `against:` must be given.
    pub against: AgainstRule,
    /// The limits and settings it understands.
    pub params: &'static [Param],
}

/// What `against:` means to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgainstRule {
    /// The gate compares with nothing but the oracle or itself; `against:` is an error.
    None,
    /// Another artifact of the same model; default: the model's source.
    ArtifactOrSource,
    /// Another artifact of the same model, which must be named.
    Artifact,
    /// Another backend or an outside runtime of the playbook's `runtimes:`, which must be named.
    BackendOrRuntime,
}

/// A limit or setting of a gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param {
    /// Its key under `limits:`.
    pub name: &'static str,
    /// One line for `explain` and the schema.
    pub doc: &'static str,
    /// Its type, and what holds where the playbook is silent; `None` is a number that then comes from the contract
    /// or the model.
    pub default: Option<ParamDefault>,
}

/// The type of a [`Param`] and what holds where the playbook is silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamDefault {
    /// A number.
    Number(f64),
    /// A word, any of them.
    Text(&'static str),
    /// One of these words; the first is the default.
    Choice(&'static [&'static str]),
    /// A word that then comes from the contract or the model.
    DerivedWord,
    /// A number that must be given.
    Required,
}

/// One gate on one artifact on one backend for one prompt.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique and stable: `suite/gate/model/artifact[/backend][/prompt]`.
    pub id: String,
    /// Suite name.
    pub suite: String,
    /// Gate id.
    pub gate: String,
    /// Model name: a key of `models:`.
    pub model: String,
    /// Artifact name: `source` or a key of `artifacts:`.
    pub artifact: String,
    /// Backend name, empty where the gate needs none.
    pub backend: String,
    /// Name and text, for a gate that runs once per prompt.
    pub prompt: Option<(String, String)>,
    /// Prompts by name, for a gate that runs once per artifact over several prompts.
    pub prompts: Vec<(String, String)>,
    /// The other artifact, backend or runtime, as `against:` names it.
    pub against: Option<String>,
    /// Tokens to generate.
    pub tokens: usize,
    /// Limits and settings as the playbook gives them, each with its place.
    pub limits: BTreeMap<String, Located<ParamValue>>,
    /// `expect: fail`: the reason.
    pub expect_fail: Option<String>,
    /// A missing model, file or outside program is a Skip.
    pub optional: bool,
    /// Those of its backends, its own and the one it is held against, whose missing adapter is a Skip.
    pub optional_backends: Vec<String>,
    /// Seconds after which the case is an Error of kind `timeout`.
    pub timeout_s: u64,
    /// Where the gate stands in the playbook.
    pub at: At,
    /// Of a detection case: what is planted, and which gates are asked.
    pub probe: Option<Probe>,
}
