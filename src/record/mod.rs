//! What a run leaves behind, as plain data: cases, verdicts, measurements, events, the run record.
//!
//! Evidence is the truth; every report is a pure projection of a [`RunRecord`].

pub mod detection;
pub mod exit;

pub use detection::{Answered, Detected, GateAnswer};
pub use exit::exit_code;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The verdict of one case. Only `Pass` counts as a pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Measured at least once, within the limit.
    Pass,
    /// Measured, outside the limit; or the artifact under test was refused.
    Fail {
        /// `refused`, or the metric's id; JUnit's `type`.
        kind: String,
        /// One line: `measured … limit … (source …)`.
        message: String,
    },
    /// Measured, but the interval straddles the limit or n is too small.
    Inconclusive {
        /// One line.
        message: String,
    },
    /// Not applicable here, and the playbook allows it.
    Skip {
        /// A reason a reader can act on.
        reason: String,
    },
    /// Could not be measured though it should have been.
    Error {
        /// `crash`, `timeout`, `reference`, `vacuous`, `io`, ….
        kind: String,
        /// One line.
        message: String,
    },
}

/// One number with its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// `mismatches`, `perplexity`, `logit_max_abs_diff`.
    pub metric: String,
    /// The value; JSON cannot hold a non-finite one, which is then written as a string.
    #[serde(with = "finite_or_text")]
    pub value: f64,
    /// `tokens`, `dB`, empty for a plain number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// How many things were compared or measured; a pass has at least one.
    pub n: u64,
    /// What the value is held against; none for a value that is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// How far the value is known; a statistical gate judges its bound, not the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// What the same measurement gives of the reference against itself; no limit below it can be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
}

/// A confidence interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    #[serde(with = "finite_or_text")]
    pub low: f64,
    /// Upper bound.
    #[serde(with = "finite_or_text")]
    pub high: f64,
    /// Two-sided confidence, 0.95.
    pub level: f64,
    /// How it was made, its seed included: `BCa bootstrap, 64 chunks, 10000 resamples, seed 1`.
    pub method: String,
}

/// A limit and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// How the value must relate to `value`.
    pub op: LimitOp,
    /// The bound.
    #[serde(with = "finite_or_text")]
    pub value: f64,
    /// `playbooks/ci.yaml:41`, `contracts/apr-format-v1.yaml tolerances.Q8_0`, `oracle/…`, `gate default`.
    pub source: String,
}

/// How a measured value must relate to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitOp {
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// Less than.
    #[serde(rename = "<")]
    Below,
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
    /// Exactly.
    #[serde(rename = "==")]
    Equal,
}

/// A thing found broken or odd: which, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// A tensor, token, metadata key or fault: the thing at fault, by name.
    pub subject: String,
    /// What is wrong with it: expected, found.
    pub detail: String,
    /// The id of the likely cause, `rows-interleaved`, where one was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Finding {
    /// The layer that the subject is in, where it is a canonical tensor of one: 3 of `3.q_proj.weight`.
    pub fn layer(&self) -> Option<usize> {
        self.subject.split_once('.')?.0.parse().ok()
    }
}

/// Numbers that a report draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// What is drawn, `SQNR per layer`.
    pub title: String,
    /// How.
    pub kind: ChartKind,
    /// `dB`, `nats`; empty for a plain number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What each value belongs to: a layer, the lower edge of a bin, a position. As many as values.
    pub labels: Vec<String>,
    /// What was measured.
    #[serde(with = "finite_or_text::list")]
    pub values: Vec<f64>,
    /// What was expected at the same places; empty where nothing was.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "finite_or_text::list")]
    pub expected: Vec<f64>,
}

/// How a chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartKind {
    /// One value for each layer or tensor, in model order.
    Strip,
    /// Counts of bins.
    Histogram,
    /// One value for each position.
    Line,
}

/// A token at which two models part, in its context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Departure {
    /// Position in the text, in tokens.
    pub position: u64,
    /// The text just before it.
    pub context: String,
    /// What the reference would say.
    pub expected: String,
    /// What the artifact would say.
    pub found: String,
    /// Divergence of the two distributions there, in nats.
    #[serde(with = "finite_or_text")]
    pub kl: f64,
}

/// The GPU, or the software in its place, that a case was computed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// As its driver names it.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `other`, or `cpu` for software.
    pub kind: String,
    /// The driver with its version.
    pub driver: String,
    /// `Vulkan`, `Metal` or `DX12`.
    pub api: String,
    /// What it offers beyond the least that computing takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

impl fmt::Display for Adapter {
    /// Without the features: `llvmpipe (cpu, Vulkan, llvmpipe Mesa 22.3.6)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Adapter { name, kind, driver, api, features: _ } = self;
        write!(f, "{name} ({kind}, {api}, {driver})")
    }
}

/// What a gate hands back when it could measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict; never `Skip` or `Error`, which are [`Unable`]'s.
    pub verdict: Verdict,
    /// Everything that was measured, the deciding one first.
    pub measurements: Vec<Measurement>,
    /// The broken things, worst first.
    pub findings: Vec<Finding>,
    /// Free text for a person: a diff, the first differing token in context. May be empty.
    pub detail: String,
    /// What a report draws.
    pub charts: Vec<Chart>,
    /// Tokens at which the two sides part, worst first.
    pub departures: Vec<Departure>,
}

impl Judgement {
    /// A verdict that rests on nothing else.
    pub fn bare(verdict: Verdict) -> Judgement {
        let (measurements, findings, detail) = (Vec::new(), Vec::new(), String::new());
        Judgement { verdict, measurements, findings, detail, charts: Vec::new(), departures: Vec::new() }
    }
}

/// Why a gate could not measure. The runner makes a Skip (optional) or an Error of it; nobody can forget it.
#[derive(Debug, Clone, PartialEq)]
pub enum Unable {
    /// The thing does not apply to this subject and the reader should know why (an unknown family).
    NotApplicable(String),
    /// The artifact's family is not one of this program's, so nothing can be inferred with it: always a Skip, and
    /// the reason names the family.
    UnknownFamily(String),
    /// Something optional is missing: a model not pulled, an outside program not there.
    Missing(String),
    /// The artifact under test was refused by its reader: a Fail of kind `refused`.
    Refused(crate::Error),
    /// The reference could not be used: exit code 3.
    Reference(crate::Error),
    /// Nothing was compared with nothing: an Error of kind `vacuous`.
    Vacuous(String),
    /// Anything else that went wrong.
    Failed {
        /// `crash`, `timeout`, `io`.
        kind: String,
        /// One line.
        message: String,
    },
}

/// One case with its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Unique and stable: `suite/gate/model/artifact/backend/prompt`.
    pub id: String,
    /// Suite name in the playbook.
    pub suite: String,
    /// Gate id, `token-parity`.
    pub gate: String,
    /// The gate's contract id, `F-CONTRACT-I1-001`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_id: Option<String>,
    /// Model name in the playbook.
    pub model: String,
    /// Artifact name in the playbook.
    pub artifact: String,
    /// Backend that ran, empty for a gate that needs none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backend: String,
    /// The adapter that it, or what it was held against, was computed on; none where the processor did it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    /// Prompt name, where the case has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The playbook, relative to the repository (or as given).
    pub file: String,
    /// Line of the gate in the playbook.
    pub line: u32,
    /// What came out, after `expect: fail` was applied.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// For `expect: fail`: the declared reason. The measured failure then stands in `detail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_failure: Option<String>,
    /// Whether an allowed skip.
    #[serde(default)]
    pub optional: bool,
    /// The deciding one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
    /// Worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Free text for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What a report draws.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charts: Vec<Chart>,
    /// Tokens at which the artifact and its reference part, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departures: Vec<Departure>,
    /// Of a detection case: what was planted and what the gates said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Box<Detected>>,
    /// A command line that reproduces this case alone.
    pub reproduce: String,
    /// Wall time.
    pub seconds: f64,
}

/// Everything a report needs, and nothing that it must ask anybody for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this schema.
    pub schema: u32,
    /// Playbook name.
    pub playbook: String,
    /// The playbook's path as it is to be shown.
    pub file: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Wall time of the whole run.
    pub seconds: f64,
    /// `SIGINT`, `SIGTERM` where the run was cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    /// Cases that were planned and did not run (interrupted, fail-fast).
    #[serde(default)]
    pub not_run: u64,
    /// The exit code that belongs to these cases.
    pub exit_code: u8,
    /// Ordered `what -> value`: versions, hashes, CPU features, threads, seed.
    pub provenance: BTreeMap<String, String>,
    /// In plan order.
    pub cases: Vec<CaseRecord>,
}

impl RunRecord {
    /// The version of this schema that this program writes.
    pub const SCHEMA: u32 = 1;
}

/// The event stream of a run; `evidence.jsonl` holds one a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First line.
    RunStarted {
        /// Everything but the cases; `seconds` and `exit_code` are 0.
        record: RunRecord,
        /// Cases planned.
        planned: u64,
    },
    /// A case began.
    CaseStarted {
        /// Its id.
        id: String,
    },
    /// A case ended.
    CaseFinished {
        /// The whole case.
        case: Box<CaseRecord>,
    },
    /// Last line.
    RunFinished {
        /// As in the record.
        exit_code: u8,
        /// As in the record.
        seconds: f64,
        /// As in the record.
        interrupted: Option<String>,
        /// As in the record.
        not_run: u64,
        /// As in the record: digests of artifacts are known only now.
        #[serde(default)]
        provenance: BTreeMap<String, String>,
    },
}

/// JSON has no NaN or infinity: a finite number stays a number, the others become text.
mod finite_or_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { s.serialize_f64(*value) } else { s.serialize_str(&value.to_string()) }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Text(String),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        value(Either::deserialize(d)?)
    }

    fn value<E: Error>(either: Either) -> Result<f64, E> {
        match either {
            Either::Number(n) => Ok(n),
            Either::Text(t) => t.parse().map_err(E::custom),
        }
    }

    /// Many of them.
    pub mod list {
        use super::{Either, value};
        use serde::ser::SerializeSeq;
        use serde::{Deserialize, Deserializer, Serializer};

        pub fn serialize<S: Serializer>(values: &[f64], s: S) -> Result<S::Ok, S::Error> {
            let mut list = s.serialize_seq(Some(values.len()))?;
            for value in values {
                match value.is_finite() {
                    true => list.serialize_element(value)?,
                    false => list.serialize_element(&value.to_string())?,
                }
            }
            list.end()
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
            Vec::<Either>::deserialize(d)?.into_iter().map(value).collect()
        }
    }
}
