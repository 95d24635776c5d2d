//! `rosetta validate-stats A B`: gate I-4 on two files, outside any playbook.

use crate::contract::Contract;
use crate::gates::{self, Against, References, Settings, Trial};
use crate::oracle::{Oracle, OracleLogits};
use crate::record::{Judgement, Measurement, Unable, Verdict};
use crate::subject::{self, Answer, Place, Role, Subject};
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `rosetta validate-stats`.
#[derive(clap::Args)]
pub struct Args {
    /// The original; with --reference, the conversion.
    model: PathBuf,
    /// The conversion.
    #[arg(required_unless_present = "reference", conflicts_with = "reference")]
    converted: Option<PathBuf>,
    /// The original, where MODEL is the conversion.
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model: String,
    reference: String,
    total_tensors: usize,
    /// Tensors with at least one anomaly.
    anomalies: usize,
    anomaly_details: Vec<Anomaly>,
    measurements: Vec<Measurement>,
    passed: bool,
}

#[derive(Serialize)]
struct Anomaly {
    tensor: String,
    detail: String,
}

/// The invariant's own gate decides; nothing is compared twice.
const GATE: &str = "contract-i4";

/// Compares; exit code 1 where a tensor is outside its tolerance.
pub fn execute(args: &Args) -> Result<u8> {
    let (original, converted) = match (&args.reference, &args.converted) {
        (Some(reference), _) => (reference, &args.model),
        (None, Some(converted)) => (&args.model, converted),
        (None, None) => return Err(Error::new(Kind::Usage, "validate-stats", "one model is no comparison")),
    };
    let (theirs, ours) = (open(original, Role::Reference), open(converted, Role::UnderTest));
    let judged = judge(&*theirs, &*ours).map_err(error)?;
    let tensors = ours.tensors().map_err(error)?.len();
    let details: Vec<Anomaly> =
        judged.findings.into_iter().map(|f| Anomaly { tensor: f.subject, detail: f.detail }).collect();
    let output = Output {
        model: converted.display().to_string(),
        reference: original.display().to_string(),
        total_tensors: tensors,
        anomalies: details.iter().map(|a| a.tensor.as_str()).collect::<BTreeSet<_>>().len(),
        anomaly_details: details,
        measurements: judged.measurements,
        passed: judged.verdict == Verdict::Pass,
    };
    if args.json {
        super::super::print_json(&output)?;
    } else {
        super::super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.passed))
}

fn open(path: &Path, role: Role) -> Arc<dyn Subject> {
    subject::open(Place {
        model: "model".into(),
        artifact: path.display().to_string(),
        path: path.to_path_buf(),
        shown: path.display().to_string(),
        // No inference: values are compared as they stand in the files.
        backend: String::new(),
        threads: 1,
        adapter: None,
        role,
        kept: None,
    })
}

fn judge(original: &dyn Subject, converted: &dyn Subject) -> Answer<Judgement> {
    let unknown = || Unable::Failed { kind: "usage".into(), message: format!("there is no gate `{GATE}`") };
    let gate = gates::find(GATE).ok_or_else(unknown)?;
    let settings = Settings::new(gate.info().params, BTreeMap::new(), "validate-stats");
    gate.judge(&Trial {
        subject: converted,
        against: Some(Against::Subject(original)),
        prompt: None,
        prompts: &[],
        tokens: 0,
        settings: &settings,
        references: &NoReferences,
        contract: Contract::builtin(),
        scratch: Path::new(""),
    })
}

/// This gate asks for no recorded reference.
struct NoReferences;

impl References for NoReferences {
    fn oracle(&self, _: &str) -> Answer<(Arc<Oracle>, String)> {
        Err(none())
    }

    fn oracle_logits(&self, _: &str) -> Answer<(Arc<OracleLogits>, String)> {
        Err(none())
    }

    fn text(&self) -> Answer<(Arc<str>, String)> {
        Err(none())
    }

    fn perplexity_ceiling(&self) -> Option<(f64, String)> {
        None
    }
}

fn none() -> Unable {
    Unable::Reference(Error::new(Kind::Usage, "validate-stats", "there are no recorded references"))
}

/// What could not be measured, as an error of the command line.
fn error(unable: Unable) -> Error {
    match unable {
        Unable::Refused(error) | Unable::Reference(error) => error,
        Unable::Vacuous(what) | Unable::NotApplicable(what) | Unable::UnknownFamily(what) => {
            Error::new(Kind::Contract, "validate-stats", what)
        }
        Unable::Missing(what) => Error::new(Kind::Io, "validate-stats", what),
        Unable::Failed { message, .. } => Error::new(Kind::Internal, "validate-stats", message),
    }
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for anomaly in &output.anomaly_details {
        let _ = writeln!(out, "WRONG {:<28} {}", anomaly.tensor, anomaly.detail);
    }
    for m in &output.measurements {
        let limit =
            m.limit.as_ref().map(|l| format!(" (limit {}, {})", l.value, l.source)).unwrap_or_default();
        let _ = writeln!(out, "{:<28} {:.6} {}{limit}", m.metric, m.value, m.unit);
    }
    let _ =
        writeln!(out, "{} of {} tensors are outside their tolerance", output.anomalies, output.total_tensors);
    out
}
