//! Runs a playbook: names resolved, artifacts made, every case isolated, evidence on disk before the next begins.
//!
//! A run always ends with valid reports of what ran: after a failure, a panic of a case, a timeout or a signal.

mod artifacts;
mod case;
mod catalog;
mod detection;
mod digest;
mod evidence_log;
mod interrupt;
mod isolate;
mod localise;
mod output;
mod outside;
mod progress;
mod provenance;
mod references;
mod resolve;
mod stage;

pub use catalog::Catalog;
pub use interrupt::Interrupt;
pub use output::{Destinations, write_atomically};
pub use progress::Style;
pub use references::BUILT_IN_TEXT;
pub use resolve::{Planned, resolve};

use crate::Result;
use crate::engine;
use crate::playbook::{Case, Filter, Probe};
use crate::record::{CaseRecord, Event, RunRecord, Verdict, exit_code};
use crate::report::RenderOptions;
use crate::subject::Answer;
use artifacts::Workshop;
use case::Job;
use detection::DetectionJob;
use evidence_log::EvidenceLog;
use isolate::Ended;
use progress::Progress;
use references::ModelReferences;
use stage::Stage;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to run and how.
pub struct Options {
    /// The playbook.
    pub playbook: PathBuf,
    /// Which of its cases.
    pub filter: Filter,
    /// Where reports go instead of where the playbook says.
    pub destinations: Destinations,
    /// How reports are rendered.
    pub render: RenderOptions,
    /// Threads of the engine; the playbook's, else the machine's, where this is none.
    pub threads: Option<usize>,
    /// Stop at the first case that does not pass, whatever the playbook says.
    pub fail_fast: bool,
    /// How progress is shown.
    pub progress: Style,
    /// Start of the run, RFC 3339 in UTC: the clock is the caller's.
    pub started_at: String,
}

/// What came of a run.
pub struct Outcome {
    /// Everything that was measured.
    pub record: RunRecord,
    /// The folder that holds the reports.
    pub folder: PathBuf,
}

/// Runs the playbook and writes its reports.
///
/// # Errors
/// [`crate::Kind::Usage`] for an invalid playbook (nothing was run); [`crate::Kind::Environment`] where reports cannot be
/// written. What a case finds is in the record, never an error.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Outcome> {
    let start = Instant::now();
    let Planned { playbook, cases } = resolve(&options.playbook, &options.filter)?;
    let folder = options.destinations.folder(&playbook);
    fs::create_dir_all(&folder).map_err(|error| evidence_log::not_writable(&folder, &error))?;
    let mut log = EvidenceLog::begin(&folder)?;

    let of_playbook = playbook.policy.threads.as_ref().map(|threads| threads.value as usize);
    let threads = options.threads.or(of_playbook).unwrap_or_else(engine::usable_cpus);
    let program = provenance::program_digest();
    let file = playbook.source.file().to_owned();
    let mut record = RunRecord {
        schema: RunRecord::SCHEMA,
        playbook: playbook.name.value.clone(),
        file: file.clone(),
        started_at: options.started_at.clone(),
        seconds: 0.0,
        interrupted: None,
        not_run: 0,
        exit_code: 0,
        provenance: provenance::provenance(&playbook, &program, threads),
        cases: Vec::new(),
    };
    log.append(&Event::RunStarted { record: record.clone(), planned: cases.len() as u64 })?;

    let workshop = Workshop::new(&playbook, folder.join("artifacts"), program);
    let references = playbook
        .models
        .iter()
        .map(|(name, model)| {
            (name.value.clone(), Arc::new(ModelReferences::new(&playbook, &name.value, model)))
        })
        .collect();
    let mut floor = Floor {
        stage: Stage::new(&playbook, workshop, threads, &cases),
        references,
        file,
        progress: Progress::new(options.progress, cases.len() as u64),
        interrupt,
    };
    let fail_fast = options.fail_fast || playbook.policy.fail_fast;
    for case in &cases {
        log.append(&Event::CaseStarted { id: case.id.clone() })?;
        let Some(done) = floor.run(case) else { break };
        floor.progress.finished(&done);
        log.append(&Event::CaseFinished { case: Box::new(done.clone()) })?;
        let stop = fail_fast && !matches!(done.verdict, Verdict::Pass | Verdict::Skip { .. });
        record.cases.push(done);
        if stop {
            break;
        }
    }
    floor.progress.done();
    for (artifact, key) in floor.stage.workshop().digests() {
        record.provenance.insert(format!("artifact {artifact}"), key.to_owned());
    }
    let required: Vec<String> =
        playbook.policy.required_suites.iter().map(|suite| suite.value.clone()).collect();
    record.not_run = (cases.len() - record.cases.len()) as u64;
    record.interrupted = interrupt.signal().map(str::to_owned);
    record.exit_code = interrupt.exit_code().unwrap_or_else(|| exit_code(&record.cases, &required));
    record.seconds = start.elapsed().as_secs_f64();
    log.append(&Event::RunFinished {
        exit_code: record.exit_code,
        seconds: record.seconds,
        interrupted: record.interrupted.clone(),
        not_run: record.not_run,
        provenance: record.provenance.clone(),
    })?;
    log.finish()?;
    options.destinations.write(&playbook, &folder, &record, &options.render)?;
    Ok(Outcome { record, folder })
}

/// Where cases run, one after the other: the engine inside uses all threads.
struct Floor<'a> {
    stage: Stage<'a>,
    references: HashMap<String, Arc<ModelReferences>>,
    file: String,
    progress: Progress,
    interrupt: &'a Interrupt,
}

impl Floor<'_> {
    /// Runs one case; `None` where a signal came first, and the case counts as not run.
    fn run(&mut self, case: &Case) -> Option<CaseRecord> {
        if self.interrupt.signal().is_some() {
            return None;
        }
        let start = Instant::now();
        self.progress.started(&case.id);
        if let Some(probe) = &case.probe {
            return self.detect(case, probe, start);
        }
        let answer = match self.stage.cast(case) {
            Err(unable) => Err(unable),
            Ok(cast) => {
                let references = Arc::clone(self.references.get(&case.model)?);
                let job = Job { case: case.clone(), cast, references, file: self.file.clone() };
                self.isolated(case, move || job.judge())?
            }
        };
        self.stage.done(case);
        Some(case::record(case, &self.file, answer, start.elapsed().as_secs_f64()))
    }

    /// Runs one detection case, as [`Floor::run`].
    fn detect(&mut self, case: &Case, probe: &Probe, start: Instant) -> Option<CaseRecord> {
        let answer = match self.stage.bench(case) {
            Err(unable) => Err(unable),
            Ok(bench) => {
                let references = Arc::clone(self.references.get(&case.model)?);
                let job = DetectionJob { case: case.clone(), bench, references, file: self.file.clone() };
                let probe = probe.clone();
                self.isolated(case, move || job.judge(&probe))?
            }
        };
        self.stage.done(case);
        Some(case::detection_record(case, &self.file, answer, start.elapsed().as_secs_f64()))
    }

    /// What `work` answers on a thread of its own, or why it did not; `None` where a signal came first.
    fn isolated<T: Send + 'static>(
        &mut self,
        case: &Case,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Option<Answer<T>> {
        let limit = Duration::from_secs(case.timeout_s);
        let progress = &mut self.progress;
        let mut waiting = |so_far| progress.waiting(&case.id, so_far);
        let unanswered = match isolate::run(work, limit, self.interrupt, &mut waiting) {
            Ended::Returned(answer) => return Some(answer),
            Ended::Interrupted => return None,
            Ended::Panicked(place) => case::unanswered("crash", format!("this program panicked: {place}")),
            Ended::TimedOut => case::unanswered("timeout", format!("no verdict within {} s", case.timeout_s)),
        };
        self.stage.abandon(case);
        Some(unanswered)
    }
}
