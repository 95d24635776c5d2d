//! What became of a planted defect: the outcome of one detection case, from which the score follows.

use super::Finding;
use serde::{Deserialize, Serialize};

/// One instance: a defect planted into an artifact, or an unbroken one, and what the gates said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detected {
    /// Its id; none for an unbroken artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
    /// What kind of mistake it is, `rope`; empty for an unbroken artifact.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Whether it sits in a tensor or a layer, which a gate must then name.
    pub in_weights: bool,
    /// What was done, in a sentence.
    pub planted: String,
    /// Naming one of these is right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Causes that a gate may rightly give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Whether a gate failed or refused.
    pub caught: bool,
    /// Whether the first finding names a target.
    pub named: bool,
    /// Whether a finding of the first gate gives a right cause.
    pub cause_named: bool,
    /// The first gate that spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_gate: Option<String>,
    /// What it found first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_finding: Option<Finding>,
    /// Every gate that was asked, in order.
    pub gates: Vec<GateAnswer>,
}

/// What one gate said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateAnswer {
    /// Its id.
    pub gate: String,
    /// In one word.
    pub answer: Answered,
    /// One line: the message of the verdict, or why there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A gate's answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// Measured, within its limits.
    Passed,
    /// Measured, outside a limit.
    Failed,
    /// The artifact was refused.
    Refused,
    /// Measured, and neither shown.
    Inconclusive,
    /// It could not measure here.
    Silent,
}

impl Answered {
    /// Whether the gate spoke against the artifact.
    pub const fn is_against(self) -> bool {
        matches!(self, Answered::Failed | Answered::Refused)
    }

    /// The word in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Answered::Passed => "passed",
            Answered::Failed => "failed",
            Answered::Refused => "refused",
            Answered::Inconclusive => "inconclusive",
            Answered::Silent => "silent",
        }
    }
}
