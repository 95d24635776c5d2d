//! Runs a playbook: names resolved, artifacts made, cases side by side within a budget of threads, each isolated and on
//! disk when it ends.
//!
//! What a run finds, and the order in which it is told, does not depend on what ran beside what.
//! A run always ends with valid reports of what ran: after a failure, a panic of a case, a timeout or a signal.

mod artifacts;
mod cache;
mod case;
mod catalog;
mod detection;
mod devices;
mod digest;
mod evidence_log;
mod floor;
mod interrupt;
mod isolate;
mod localise;
mod output;
mod outside;
mod progress;
mod provenance;
mod references;
mod resolve;
mod schedule;
mod stage;

pub use artifacts::Made;
pub use cache::{Keeping, Why};
pub use catalog::Catalog;
pub use interrupt::Interrupt;
pub use output::{Destinations, write_atomically};
pub use progress::Style;
pub use references::BUILT_IN_TEXT;
pub use resolve::{Planned, resolve};

use crate::Result;
use crate::engine;
use crate::playbook::Filter;
use crate::record::{Event, RunRecord, exit_code};
use crate::report::RenderOptions;
use artifacts::Workshop;
use devices::Devices;
use evidence_log::EvidenceLog;
use floor::Floor;
use progress::Progress;
use references::ModelReferences;
use stage::Stage;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

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
    /// Threads of all cases together; the playbook's, else the machine's, where this is none.
    pub threads: Option<usize>,
    /// The adapter that GPU backends compute on, as [`engine::choose_device`] reads it; the best where this is none.
    pub adapter: Option<String>,
    /// Where conversions are kept between runs.
    pub keeping: Keeping,
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
    /// Every conversion: whether it was made, and why.
    pub made: Vec<Made>,
}

/// Runs the playbook and writes its reports.
///
/// # Errors
/// [`crate::Kind::Usage`] for an invalid playbook (nothing was run); [`crate::Kind::Environment`] where reports cannot be
/// written, or a GPU backend has no adapter and is not optional (nothing was run). What a case finds is in the record, never an error.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Outcome> {
    let start = Instant::now();
    let Planned { playbook, cases } = resolve(&options.playbook, &options.filter)?;
    let devices = Devices::find(&cases, options.adapter.as_deref())?;
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
        provenance: provenance::provenance(&playbook, &cases, &program, (threads, devices.adapter())),
        cases: Vec::new(),
    };
    log.append(&Event::RunStarted { record: record.clone(), planned: cases.len() as u64 })?;

    let kept_in = match &options.keeping.folder {
        // Two playbooks may have a model of the same name.
        Some(shared) => shared.join(&playbook.name.value),
        None => folder.join("artifacts"),
    };
    let workshop = Workshop::new(&playbook, kept_in, !options.keeping.anew, program, threads);
    let references = playbook
        .models
        .iter()
        .map(|(name, model)| {
            (name.value.clone(), Arc::new(ModelReferences::new(&playbook, &name.value, model)))
        })
        .collect();
    let floor = Floor {
        cases: &cases,
        stage: Stage::new(&playbook, workshop, (threads, options.adapter.clone(), devices), &cases),
        references,
        file,
        interrupt,
        fail_fast: options.fail_fast || playbook.policy.fail_fast,
        threads,
    };
    record.cases = floor.run(&mut log, Progress::new(options.progress, cases.len() as u64))?;
    for (artifact, key) in floor.stage.workshop().digests() {
        record.provenance.insert(format!("artifact {artifact}"), key);
    }
    let required: Vec<String> =
        playbook.policy.required_suites.iter().map(|suite| suite.value.clone()).collect();
    record.not_run = (cases.len() - record.cases.len()) as u64;
    record.interrupted = interrupt.signal().map(str::to_owned);
    record.exit_code = interrupt.exit_code().unwrap_or_else(|| exit_code(&record.cases, &required));
    record.seconds = start.elapsed().as_secs_f64();
    log.finish(&record)?;
    options.destinations.write(&playbook, &folder, &record, &options.render)?;
    Ok(Outcome { record, folder, made: floor.stage.workshop().made() })
}
