//! `calibrate REFERENCE BLESSED -o FILE`: a playbook whose fixed limits are what a blessed file costs, with margins.

use super::model::existing;
use super::run::progress;
use crate::playbook::{Asked, Comparison, Filter};
use crate::record::{CaseRecord, Measurement, RunRecord, Verdict};
use crate::runner::{self, Destinations, Interrupt, Options, write_atomically};
use crate::{Error, Kind, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Arguments of `calibrate`.
#[derive(clap::Args)]
pub struct Args {
    /// The model as it should be: HF folder, GGUF or APR file.
    reference: PathBuf,
    /// A conversion of it that is known to be good.
    blessed: PathBuf,
    /// The playbook to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Score this text instead of the one that ships with the program.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// How much more than the blessed file a candidate may diverge, flip tokens and cost perplexity, as a share.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE", value_parser = share)]
    margin: f64,
    /// How far below the blessed file's worst tensor a tensor may fall, dB.
    #[arg(long, default_value_t = 0.5, value_name = "DB", value_parser = share)]
    sqnr_margin: f64,
    /// Tokens per chunk, of which the second half is scored.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(4..))]
    ctx: u32,
    /// Chunks of the text, at most.
    #[arg(long, default_value_t = 48, value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    chunks: u32,
    /// The date to write as that of the calibration, `2026-01-31`; default: today's.
    #[arg(long, value_name = "DATE")]
    date: Option<String>,
    /// Worker threads; default: the machine's. No result depends on it.
    #[arg(long, value_name = "N", env = "APR_QA_THREADS", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Show no progress on stderr.
    #[arg(long)]
    no_progress: bool,
}

/// Measures the blessed file and writes its limits.
pub fn execute(args: &Args) -> Result<u8> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = args.date.clone().unwrap_or_else(|| now.chars().take(10).collect());
    let scratch = tempfile::tempdir()
        .map_err(|error| Error::new(Kind::Environment, "a temporary folder", error.to_string()))?;
    let reference = existing(&args.reference)?;
    let asked = Comparison {
        name: "calibration".into(),
        reference,
        candidates: vec![existing(&args.blessed)?],
        text: args.text_file.as_deref().map(existing).transpose()?,
        gates: gates(args, &Limits::default()),
        prompts: vec![("completion".into(), "The capital of France is".into())],
    };
    let playbook = scratch.path().join("playbook.yaml");
    write_atomically(&playbook, asked.to_yaml(scratch.path()).as_bytes())?;
    let options = Options {
        playbook,
        filter: Filter::default(),
        destinations: Destinations {
            folder: Some(scratch.path().join("reports")),
            ..Destinations::default()
        },
        render: crate::report::RenderOptions::default(),
        threads: args.threads.map(usize::from),
        // What is composed here runs on the processor.
        adapter: None,
        keeping: runner::Keeping::default(),
        fail_fast: false,
        progress: progress(args.no_progress),
        started_at: now,
    };
    let record = runner::run(&options, &Interrupt::listen())?.record;
    let measured = Measured::of(&record)?;
    let limits = measured.limits(args);
    let beside = args.output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = std::fs::canonicalize(beside).map_err(|error| Error::io(beside, &error))?;
    let calibrated = Comparison { gates: gates(args, &limits), ..asked };
    let text = format!("{}{}", measured.provenance(&record, args, &date), calibrated.to_yaml(&beside));
    write_atomically(&args.output, text.as_bytes())?;
    super::print_text(&format!("{}limits: {}\n", measured.screen(&limits), args.output.display()))?;
    Ok(0)
}

/// Fixed limits; none where the blessed file gives none.
#[derive(Debug, Default, Clone, PartialEq)]
struct Limits {
    max_kl: Option<f64>,
    min_same_top: Option<f64>,
    max_perplexity_ratio: Option<f64>,
    min_sqnr_db: Option<f64>,
}

/// The two gates with these limits. The distributions are asked for as they were when the limits were measured.
fn gates(args: &Args, limits: &Limits) -> Vec<Asked> {
    let given = |pairs: &[(&str, Option<f64>)]| -> Vec<(String, f64)> {
        pairs.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?))).collect()
    };
    let weights = given(&[("min_sqnr_db", limits.min_sqnr_db)]);
    let logits = given(&[
        ("ctx", Some(f64::from(args.ctx))),
        ("chunks", Some(f64::from(args.chunks))),
        ("max_kl", limits.max_kl),
        ("min_same_top", limits.min_same_top),
        ("max_perplexity_ratio", limits.max_perplexity_ratio),
    ]);
    vec![
        Asked { suite: "weights".into(), gate: "tensor-fidelity".into(), limits: weights },
        Asked { suite: "logits".into(), gate: "kl-divergence".into(), limits: logits },
    ]
}

/// What the blessed file came to.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    kl: Measurement,
    floor: f64,
    same_top: Measurement,
    perplexity_ratio: Measurement,
    sqnr: Measurement,
    /// What the gates say of the blessed file by their own limits.
    verdicts: Vec<(String, String)>,
}

impl Measured {
    fn of(record: &RunRecord) -> Result<Measured> {
        let find = |metric: &str| {
            record.cases.iter().flat_map(|c| &c.measurements).find(|m| m.metric == metric).cloned()
        };
        let missing = || {
            let said = |c: &CaseRecord| Some((c.gate.clone(), said(&c.verdict).1?.to_owned()));
            let why = record.cases.iter().find_map(said);
            let why =
                why.map_or("a gate measured nothing".to_owned(), |(gate, why)| format!("{gate}: {why}"));
            Error::new(Kind::Environment, "calibrate", why)
                .hint("the blessed file must be readable, of the reference's shape, and in encodings that can be made")
        };
        let known = |metric: &str| find(metric).filter(|m| m.interval.is_some()).ok_or_else(missing);
        Ok(Measured {
            kl: known("kl_alone")?,
            floor: find("kl_mean").and_then(|m| m.floor).unwrap_or(0.0),
            same_top: known("same_top")?,
            perplexity_ratio: known("perplexity_ratio")?,
            sqnr: find("lowest_sqnr_of_all").ok_or_else(missing)?,
            verdicts: record.cases.iter().map(|c| (c.gate.clone(), said(&c.verdict).0.to_owned())).collect(),
        })
    }

    /// The worse bound of each interval and the margin. A divergence is never held below twice the noise floor.
    fn limits(&self, args: &Args) -> Limits {
        let low = |m: &Measurement| m.interval.as_ref().map_or(m.value, |i| i.low);
        let high = |m: &Measurement| m.interval.as_ref().map_or(m.value, |i| i.high);
        let more = 1.0 + args.margin;
        let ln_ratio = high(&self.perplexity_ratio).ln();
        Limits {
            max_kl: Some((high(&self.kl) * more).max(2.0 * self.floor)),
            min_same_top: Some((1.0 - (1.0 - low(&self.same_top)) * more).clamp(0.0, 1.0)),
            // A file that predicts better than its reference is held to the reference.
            max_perplexity_ratio: Some((ln_ratio.max(0.0) * more).exp()),
            min_sqnr_db: Some(self.sqnr.value - args.sqnr_margin).filter(|db| db.is_finite()),
        }
    }

    /// Where the limits come from, as comments above the playbook.
    fn provenance(&self, record: &RunRecord, args: &Args, date: &str) -> String {
        let mut text = format!(
            "# Limits measured on {date} by apr-qa-runner {} calibrate.\n# reference: {}\n# blessed: {}\n",
            env!("CARGO_PKG_VERSION"),
            args.reference.display(),
            args.blessed.display()
        );
        for (what, value) in
            record.provenance.iter().filter(|(what, _)| what.contains("sha256") || what.contains('/'))
        {
            text.push_str(&format!("# {what}: {value}\n"));
        }
        for m in [&self.kl, &self.same_top, &self.perplexity_ratio] {
            if let Some(i) = &m.interval {
                let (metric, value, level) = (&m.metric, m.value, 100.0 * i.level);
                let (low, high, method) = (i.low, i.high, &i.method);
                text.push_str(&format!(
                    "# measured {metric} {value} ({level} % interval {low} to {high}; {method}) over {}\n",
                    m.n
                ));
            }
        }
        text.push_str(&format!(
            "# measured lowest SQNR {} dB over {} tensors\n",
            self.sqnr.value, self.sqnr.n
        ));
        text.push_str(&format!(
            "# noise floor {} nats; margins: {} of divergence, flips and ln(perplexity ratio); {} dB\n",
            self.floor, args.margin, args.sqnr_margin
        ));
        for (gate, verdict) in &self.verdicts {
            text.push_str(&format!("# the blessed file by the limits of its twin: {gate} {verdict}\n"));
        }
        text
    }

    fn screen(&self, limits: &Limits) -> String {
        let row = |what: &str, value: f64, limit: Option<f64>| match limit {
            Some(limit) => format!("{what:<18} measured {value:>12.6}  limit {limit:>12.6}\n"),
            None => format!("{what:<18} measured {value:>12.6}  no limit: every tensor is exact\n"),
        };
        [
            row("KL (nats)", self.kl.value, limits.max_kl),
            row("same top-1", self.same_top.value, limits.min_same_top),
            row("perplexity ratio", self.perplexity_ratio.value, limits.max_perplexity_ratio),
            row("lowest SQNR (dB)", self.sqnr.value, limits.min_sqnr_db),
        ]
        .concat()
    }
}

/// A verdict in a word, and why it is no pass.
fn said(verdict: &Verdict) -> (&'static str, Option<&str>) {
    match verdict {
        Verdict::Pass => ("passes", None),
        Verdict::Fail { message, .. } => ("fails", Some(message)),
        Verdict::Inconclusive { message } => ("is inconclusive", Some(message)),
        Verdict::Skip { reason } => ("is skipped", Some(reason)),
        Verdict::Error { message, .. } => ("is in error", Some(message)),
    }
}

/// A number that is not negative.
fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(format!("{value} is not 0 or more")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbook;
    use crate::record::Interval;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn args() -> Args {
        Typed::parse_from(["calibrate", "a.gguf", "b.gguf", "-o", "c.yaml", "--margin", "0.5"]).args
    }

    fn measurement(metric: &str, low: f64, value: f64, high: f64) -> Measurement {
        let interval = Some(Interval { low, high, level: 0.95, method: "by hand".into() });
        Measurement {
            metric: metric.into(),
            value,
            unit: String::new(),
            n: 99,
            limit: None,
            interval,
            floor: None,
        }
    }

    fn measured() -> Measured {
        Measured {
            kl: measurement("kl_alone", 0.01, 0.012, 0.02),
            floor: 1e-9,
            same_top: measurement("same_top", 0.9, 0.92, 0.94),
            perplexity_ratio: measurement("perplexity_ratio", 1.0, 1.05, 1.1),
            sqnr: Measurement { interval: None, ..measurement("lowest_sqnr_of_all", 0.0, 19.5, 0.0) },
            verdicts: vec![("kl-divergence".into(), "passes".into())],
        }
    }

    fn record() -> RunRecord {
        RunRecord {
            schema: RunRecord::SCHEMA,
            playbook: "calibration".into(),
            file: "playbook.yaml".into(),
            started_at: "2026-01-31T00:00:00Z".into(),
            seconds: 1.0,
            interrupted: None,
            not_run: 0,
            exit_code: 0,
            provenance: std::collections::BTreeMap::from([("artifact reference/b".into(), "b1e55ed".into())]),
            cases: Vec::new(),
        }
    }

    #[test]
    fn nothing_measured_writes_no_limits() {
        let error = Measured::of(&record()).expect_err("no cases");
        assert!(error.to_string().contains("measured nothing"), "{error}");
    }

    #[test]
    fn limits_are_the_worse_bounds_with_the_margin() {
        let limits = measured().limits(&args());
        let near =
            |found: Option<f64>, expected: f64| assert!((found.expect("a limit") - expected).abs() < 1e-12);
        near(limits.max_kl, 0.03);
        near(limits.min_same_top, 0.85);
        near(limits.max_perplexity_ratio, 1.1f64.powf(1.5));
        near(limits.min_sqnr_db, 19.0);
        let exact = Measured {
            kl: measurement("kl_alone", 0.0, 0.0, 0.0),
            perplexity_ratio: measurement("perplexity_ratio", 0.97, 0.98, 0.99),
            sqnr: Measurement { value: f64::INFINITY, ..measured().sqnr },
            ..measured()
        };
        let limits = exact.limits(&args());
        assert_eq!((limits.max_kl, limits.min_sqnr_db), (Some(2e-9), None));
        near(limits.max_perplexity_ratio, 1.0);
    }

    #[test]
    fn what_is_written_loads_with_its_limits_and_says_where_they_come_from() {
        let (args, measured) = (args(), measured());
        let record = record();
        let asked = Comparison {
            name: "calibration".into(),
            reference: "/m/a.gguf".into(),
            candidates: vec!["/m/b.gguf".into()],
            text: None,
            gates: gates(&args, &measured.limits(&args)),
            prompts: vec![("completion".into(), "x".into())],
        };
        let text = format!(
            "{}{}",
            measured.provenance(&record, &args, "2026-01-31"),
            asked.to_yaml(Path::new("/m"))
        );
        assert!(
            text.contains("2026-01-31")
                && text.contains("kl_alone 0.012")
                && text.contains("b1e55ed")
                && text.contains("passes"),
            "{text}"
        );
        let playbook = playbook::parse("calibrated.yaml", &text).expect("a valid playbook");
        let cases = playbook::plan(&playbook, &crate::runner::Catalog).expect("limits that the gates know");
        let limit = |gate: &str, name: &str| {
            let case = cases.iter().find(|c| c.gate == gate).expect("a case");
            case.limits.get(name).map(|l| l.value.clone())
        };
        let number = |n: f64| Some(playbook::ParamValue::Number(n));
        assert_eq!(limit("kl-divergence", "max_kl"), number(measured.limits(&args).max_kl.expect("a limit")));
        assert_eq!(limit("kl-divergence", "ctx"), number(128.0));
        assert_eq!(limit("tensor-fidelity", "min_sqnr_db"), number(19.0));
    }

    #[test]
    fn shares_are_numbers_from_0_on() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(share("-1").is_err() && share("NaN").is_err() && share("x").is_err());
    }
}
