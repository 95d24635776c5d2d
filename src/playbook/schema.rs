//! What may stand in a playbook, as types. Their docs are the descriptions of the JSON Schema.
//!
//! Unknown keys are errors everywhere, except `x-*` at the top level (a place for YAML anchors).

use super::backend_use::BackendUse;
use super::located::{Entries, Located};
use super::source::Source;
use crate::quant::Quantize;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A playbook of apr-qa-runner: models, the artifacts made of them, and the gates they must pass.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false, "patternProperties" = { "^x-": {} }))]
pub struct Playbook {
    /// Version of the playbook schema. This program reads version 1.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// Name of the playbook; reports go to `reports/<name>/` and JUnit class names begin with it.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]{0,63}$"))]
    pub name: Located<String>,
    /// What the playbook is for, for its readers.
    #[serde(default)]
    pub description: Option<String>,
    /// The models, by name. The source of each is the reference that its artifacts are held against.
    #[schemars(extend("minProperties" = 1))]
    pub models: Entries<Model>,
    /// The prompts, by name.
    #[serde(default)]
    pub prompts: Entries<Prompt>,
    /// What is put under test for each model, by name. The name `source` always means the model's source.
    #[serde(default)]
    pub artifacts: Entries<Artifact>,
    /// Backends that a gate runs on where it does not name its own. One that is optional here is so in every gate.
    #[serde(default = "default_backends")]
    #[schemars(length(min = 1), extend("default" = ["cpu"]))]
    pub backends: Vec<BackendUse>,
    /// Outside runtimes that a gate can compare with, by name.
    #[serde(default)]
    pub runtimes: Entries<Runtime>,
    /// Suites, by name: lists of gates that belong together in the report.
    #[schemars(extend("minProperties" = 1))]
    pub suites: Entries<Vec<GateUse>>,
    /// Planted defects: how many of them the gates catch, and how often they cry wolf.
    #[serde(default)]
    pub detection: Option<Located<Detection>>,
    /// How the run goes about its cases.
    #[serde(default)]
    pub policy: Policy,
    /// Where the reports go.
    #[serde(default)]
    pub report: Reports,
    /// The text that this was parsed from, for later complaints.
    #[serde(skip)]
    #[schemars(skip)]
    pub source: Source,
}

/// A model and what is known about it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The reference: a Hugging Face model folder, a GGUF or an APR file, relative to the playbook.
    #[schemars(length(min = 1))]
    pub source: Located<String>,
    /// The family that the source is claimed to be; it is checked against the files.
    #[serde(default)]
    pub family: Option<Located<String>>,
    /// Folder of recorded oracles, `<prompt>.json` each, relative to the playbook.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub oracle: Option<Located<String>>,
    /// Text for perplexity, relative to the playbook.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub text: Option<Located<String>>,
    /// Highest perplexity on that text that the model may have.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub perplexity_ceiling: Option<Located<f64>>,
    /// Whether a missing source is a Skip rather than an Error, for a model that must first be pulled.
    #[serde(default)]
    pub optional: bool,
}

/// A prompt: its text, or the file that holds it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["text"] }, { "required": ["file"] }]))]
pub struct Prompt {
    /// The text, exactly as the tokenizer gets it.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub text: Option<String>,
    /// A file that holds the text, relative to the playbook.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub file: Option<Located<String>>,
}

/// Something under test: the source itself, a conversion of another artifact, or an outside file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{ "required": ["source"] }, { "required": ["from", "format"] }, { "required": ["file", "models"] }],
))]
pub struct Artifact {
    /// `true`: the model's source as it lies there.
    #[serde(default)]
    #[schemars(extend("const" = true))]
    pub source: Option<bool>,
    /// Converted from that artifact, or from `source`.
    #[serde(default)]
    pub from: Option<Located<String>>,
    /// The format to convert to.
    #[serde(default)]
    pub format: Option<Format>,
    /// The encoding of the weights; where absent they keep theirs.
    #[serde(default)]
    pub quantize: Option<Quantize>,
    /// The dialect of tensor names in an APR file.
    #[serde(default)]
    pub names: Option<Names>,
    /// Write an APR file as another program expects it.
    #[serde(default)]
    pub dialect: Option<Dialect>,
    /// How the blocks of matrices stand in an APR file; default: plain.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// Allow a conversion that cannot be exact (beside the asked-for quantization).
    #[serde(default)]
    pub allow_lossy: bool,
    /// An outside file or folder, relative to the playbook.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub file: Option<Located<String>>,
    /// The models it applies to: required for an outside file, which claims to be them; default: all models.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub models: Option<Vec<Located<String>>>,
    /// Whether a missing file is a Skip rather than an Error.
    #[serde(default)]
    pub optional: bool,
}

/// A format to convert to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A Hugging Face model folder with safetensors.
    Safetensors,
    /// GGUF version 3.
    Gguf,
    /// APR version 2.
    Apr,
}

/// A dialect of tensor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// The names of Hugging Face checkpoints.
    Hf,
    /// The names of the APR format contract.
    GgufShort,
}

/// A program whose APR files are to be imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// aprender 0.72: its names, dtype bytes and payloads.
    Aprender,
}

/// How the blocks of matrices stand in an APR file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Row after row.
    Plain,
    /// In tiles of 16 rows, which the CPU engine multiplies as they are mapped.
    Tiled,
}

/// An outside runtime, reached by a command or by a URL.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["command"] }, { "required": ["url"] }]))]
pub struct Runtime {
    /// Program and arguments; `{model}`, `{prompt}` and `{tokens}` are replaced. Its stdout is the text.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// Where to post `{"prompt": …, "n_predict": …, "temperature": 0}`; the answer's `content` is the text.
    #[serde(default)]
    #[schemars(regex(pattern = "^https?://"))]
    pub url: Option<Located<String>>,
    /// Whether a missing program or a silent server is a Skip rather than an Error.
    #[serde(default)]
    pub optional: bool,
}

/// One gate with what it is applied to: every model × artifact × backend (× prompt) that applies is a case.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateUse {
    /// Id of the gate.
    pub gate: Located<String>,
    /// Tells apart two uses of one gate in one suite; it becomes part of the case ids.
    #[serde(default)]
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]{0,63}$"))]
    pub label: Option<Located<String>>,
    /// Models; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub models: Option<Vec<Located<String>>>,
    /// Artifacts; default: all that apply.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub artifacts: Option<Vec<Located<String>>>,
    /// Backends, for a gate that runs the model; default: the playbook's.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub backends: Option<Vec<BackendUse>>,
    /// Prompts; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub prompts: Option<Vec<Located<String>>>,
    /// What the artifact is compared with: another artifact, a backend or a runtime, as the gate says.
    #[serde(default)]
    pub against: Option<Located<String>>,
    /// Tokens to generate; default: 32, as many as the oracles hold.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub tokens: Option<Located<u32>>,
    /// Limits and settings of the gate, by name.
    #[serde(default)]
    pub limits: Entries<Located<ParamValue>>,
    /// `fail`: a known weakness; the case passes only if the gate fails. Needs `reason`.
    #[serde(default)]
    pub expect: Option<Located<Expect>>,
    /// Why the gate is expected to fail.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub reason: Option<Located<String>>,
    /// Whether a missing model, file, adapter or program is a Skip rather than an Error.
    #[serde(default)]
    pub optional: bool,
    /// Time that one case may take: `90s`, `2m`, `1h`; default: the policy's.
    #[serde(default)]
    pub timeout: Option<Seconds>,
}

/// Instances of the catalogue of defects, and unbroken ones, drawn by seed over models and artifacts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detection {
    /// Decides every draw; the same seed draws the same instances.
    #[serde(default)]
    pub seed: u64,
    /// Instances with a defect.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub instances: u32,
    /// Unbroken instances: conversions whose encodings are drawn too. None of them may be flagged.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub clean: u32,
    /// Defects, as `mutate --list` names them; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub defects: Option<Vec<Located<String>>>,
    /// Models; default: all that are not in `extra`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub models: Option<Vec<Located<String>>>,
    /// Further instances of other models, by model: large ones need not have the share of small ones.
    #[serde(default)]
    pub extra: Entries<u32>,
    /// Artifacts; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub artifacts: Option<Vec<Located<String>>>,
    /// Gates that are asked, in order; default: those that need no recorded reference.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub gates: Option<Vec<Located<String>>>,
    /// Ask every gate, also after one has spoken: a score for each.
    #[serde(default)]
    pub every_gate: bool,
    /// Defects that no gate sees, each with its reason: such an instance passes only if it is missed.
    #[serde(default)]
    pub known_misses: Vec<KnownMiss>,
    /// Time that one instance may take; default: the policy's.
    #[serde(default)]
    pub timeout: Option<Seconds>,
}

/// A weakness of the gates that is known.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownMiss {
    /// The defect.
    pub defect: Located<String>,
    /// In these models; default: in any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub models: Option<Vec<Located<String>>>,
    /// In these artifacts; default: in any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub artifacts: Option<Vec<Located<String>>>,
    /// Why no gate sees it.
    pub reason: Located<String>,
}

/// What is expected of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// The gate passes; so without `expect`.
    Pass,
    /// The gate fails, for a stated reason; an unexpected pass is a failure.
    Fail,
}

/// How the run goes about its cases.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Stop at the first case that does not pass; the others are reported as not run.
    pub fail_fast: bool,
    /// Threads of the engine; default: the cores of the machine.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<Located<u32>>,
    /// Time that one case may take where its gate says nothing: `90s`, `2m`, `1h`.
    pub case_timeout: Seconds,
    /// Suites that must not be skipped as a whole.
    pub required_suites: Vec<Located<String>>,
}

/// Where the reports go, relative to the playbook.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reports {
    /// Folder of all reports and of the evidence; default: `reports/<name>` where the program runs.
    #[schemars(length(min = 1))]
    pub dir: Option<String>,
    /// A further copy of the JUnit XML.
    #[schemars(length(min = 1))]
    pub junit: Option<String>,
    /// A further copy of the Markdown report.
    #[schemars(length(min = 1))]
    pub markdown: Option<String>,
    /// A further copy of the HTML report.
    #[schemars(length(min = 1))]
    pub html: Option<String>,
    /// A further copy of the run record.
    #[schemars(length(min = 1))]
    pub json: Option<String>,
}

/// A limit's value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamValue {
    /// A number.
    Number(f64),
    /// A word, such as `counting: teacher_forced`.
    Text(String),
}

/// A length of time in whole seconds, written `90s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

/// What an [`Artifact`] is, once it is known to be exactly one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin<'a> {
    /// The model's source.
    Source,
    /// A conversion of the artifact of that name.
    Converted {
        /// The artifact it is made from, or `source`.
        from: &'a Located<String>,
        /// What it is converted to.
        format: Format,
    },
    /// An outside file, relative to the playbook.
    File(&'a Located<String>),
}

/// The tokens that a gate generates where the playbook is silent: as many as the recorded oracles hold.
pub const DEFAULT_TOKENS: u32 = 32;

impl Playbook {
    /// `path` as written in the playbook, seen from where the program runs. No I/O.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.folder().join(path)
    }

    /// The backends that every gate may miss.
    pub(super) fn optional_backends(&self) -> impl Iterator<Item = &str> {
        self.backends.iter().filter(|backend| backend.optional).map(|backend| backend.name.value.as_str())
    }

    /// The folder that holds the playbook, empty for the current one.
    pub fn folder(&self) -> &Path {
        Path::new(self.source.file()).parent().unwrap_or(Path::new(""))
    }
}

impl Artifact {
    /// What it is. The schema lets exactly one of the three through; `plan` checks it again.
    pub fn origin(&self) -> Option<Origin<'_>> {
        match (self.source, &self.from, self.format, &self.file) {
            (Some(true), None, None, None) => Some(Origin::Source),
            (None, Some(from), Some(format), None) => Some(Origin::Converted { from, format }),
            (None, None, None, Some(file)) => Some(Origin::File(file)),
            _ => None,
        }
    }
}

impl Format {
    /// As written in a playbook.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Gguf => "gguf",
            Format::Apr => "apr",
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy { fail_fast: false, threads: None, case_timeout: Seconds(300), required_suites: Vec::new() }
    }
}

fn default_backends() -> Vec<BackendUse> {
    vec![BackendUse::required("cpu")]
}
