//! Where cases run: lanes that take the next case that fits, each case isolated and on disk when it ends.

use super::case::{self, Job};
use super::detection::DetectionJob;
use super::evidence_log::EvidenceLog;
use super::interrupt::Interrupt;
use super::isolate::{self, Ended};
use super::progress::Progress;
use super::references::ModelReferences;
use super::schedule::{Schedule, grouped};
use super::stage::Stage;
use crate::playbook::{At, Case, Probe};
use crate::record::{CaseRecord, Event, Verdict};
use crate::subject::{Answer, Subject};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The cases of one run with all that they need.
pub struct Floor<'a> {
    /// Every case, in plan order.
    pub cases: &'a [Case],
    /// Who takes part in them.
    pub stage: Stage<'a>,
    /// What is known about the models.
    pub references: HashMap<String, Arc<ModelReferences>>,
    /// The playbook's path.
    pub file: String,
    /// The signal that may end the run.
    pub interrupt: &'a Interrupt,
    /// Whether the first case that does not pass is the last one.
    pub fail_fast: bool,
    /// Threads of all cases together.
    pub threads: usize,
}

/// What the lanes share.
struct Desk<'a> {
    schedule: Schedule,
    log: &'a mut EvidenceLog,
    progress: Progress,
    /// By index into the plan.
    done: Vec<Option<CaseRecord>>,
    /// The log could not be written: nothing else begins.
    failed: Option<Error>,
}

/// How long a lane without a case waits before it looks for a signal again.
const TICK: Duration = Duration::from_millis(50);

impl Floor<'_> {
    /// Runs the cases; the records stand in plan order, whatever ran first. Events go to `log` as they happen.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the log cannot be written.
    pub fn run(&self, log: &mut EvidenceLog, progress: Progress) -> Result<Vec<CaseRecord>> {
        // What ran before a stop follows from the plan alone where cases begin in its order.
        let order = match self.fail_fast {
            true => (0..self.cases.len()).collect(),
            false => grouped(self.cases, |case| self.stage.takes_all(case)),
        };
        let desk = Mutex::new(Desk {
            schedule: Schedule::new(order, self.threads),
            log,
            progress,
            done: self.cases.iter().map(|_| None).collect(),
            failed: None,
        });
        let ended = Condvar::new();
        thread::scope(|scope| {
            for _ in 1..self.threads.min(self.cases.len()) {
                // With fewer lanes the run is only slower.
                let _ = thread::Builder::new()
                    .name("lane".into())
                    .spawn_scoped(scope, || self.lane(&desk, &ended));
            }
            self.lane(&desk, &ended);
        });
        let desk = desk.into_inner().unwrap_or_else(PoisonError::into_inner);
        desk.progress.done();
        match desk.failed {
            Some(error) => Err(error),
            None => {
                let counted = desk.schedule.last().saturating_add(1);
                Ok(desk.done.into_iter().take(counted).flatten().collect())
            }
        }
    }

    /// Takes cases until none is left, a signal comes, or the log fails.
    fn lane(&self, desk: &Mutex<Desk>, ended: &Condvar) {
        let mut held = lock(desk);
        loop {
            if held.schedule.is_empty() || held.failed.is_some() || self.interrupt.signal().is_some() {
                return;
            }
            let Some((at, demand)) = held.schedule.begin(|at| self.stage.demand(&self.cases[at])) else {
                // A lane that panicked poisons nothing that is half-done.
                held = ended.wait_timeout(held, TICK).unwrap_or_else(|p| p.into_inner()).0;
                continue;
            };
            let case = &self.cases[at];
            held.tell(&Event::CaseStarted { id: case.id.clone() });
            held.progress.started(&case.id);
            drop(held);
            let done = self.judge(case, desk);
            held = lock(desk);
            held.schedule.end(&demand);
            if let Some(done) = done {
                held.finish(at, done, self.fail_fast);
            }
            ended.notify_all();
        }
    }

    /// Runs one case; `None` where a signal came first, and the case counts as not run.
    fn judge(&self, case: &Case, desk: &Mutex<Desk>) -> Option<CaseRecord> {
        let start = Instant::now();
        if let Some(probe) = &case.probe {
            return self.detect(case, probe, start, desk);
        }
        let mut subjects = Vec::new();
        let answer = match self.stage.cast(case) {
            Err(unable) => Err(unable),
            Ok(cast) => {
                subjects = cast.subjects();
                let references = Arc::clone(self.references.get(&case.model)?);
                let prompts = prompts(case, self.cases);
                let job = Job { case: case.clone(), prompts, cast, references, file: self.file.clone() };
                self.isolated(case, desk, move || job.judge())?
            }
        };
        let adapter = subjects.iter().find_map(|subject| subject.adapter());
        drop(subjects);
        self.stage.done(case);
        let record = case::record(case, &self.file, answer, start.elapsed().as_secs_f64());
        Some(CaseRecord { adapter, ..record })
    }

    /// Runs one detection case, as [`Floor::judge`].
    fn detect(&self, case: &Case, probe: &Probe, start: Instant, desk: &Mutex<Desk>) -> Option<CaseRecord> {
        let broken = Arc::new(OnceLock::new());
        let answer = match self.stage.bench(case) {
            Err(unable) => Err(unable),
            Ok(bench) => {
                let references = Arc::clone(self.references.get(&case.model)?);
                let (file, broken) = (self.file.clone(), Arc::clone(&broken));
                let job = DetectionJob { case: case.clone(), bench, references, file, broken };
                let probe = probe.clone();
                self.isolated(case, desk, move || job.judge(&probe))?
            }
        };
        let adapter = broken.get().and_then(|subject: &Arc<dyn Subject>| subject.adapter());
        self.stage.done(case);
        let record = case::detection_record(case, &self.file, answer, start.elapsed().as_secs_f64());
        Some(CaseRecord { adapter, ..record })
    }

    /// What `work` answers on a thread of its own, or why it did not; `None` where a signal came first.
    fn isolated<T: Send + 'static>(
        &self,
        case: &Case,
        desk: &Mutex<Desk>,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Option<Answer<T>> {
        let limit = Duration::from_secs(case.timeout_s);
        let mut waiting = |so_far| lock(desk).progress.waiting(&case.id, so_far);
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

/// All prompts of `case`; of a case of one prompt those of all `cases` that differ from it in the prompt alone.
fn prompts(case: &Case, cases: &[Case]) -> Vec<(String, String)> {
    if case.prompt.is_none() {
        return case.prompts.clone();
    }
    // A use of a gate has one place in the playbook.
    fn of(case: &Case) -> (At, [&str; 5]) {
        (case.at, [&case.suite, &case.gate, &case.model, &case.artifact, &case.backend])
    }
    cases.iter().filter(|other| of(other) == of(case)).filter_map(|other| other.prompt.clone()).collect()
}

impl Desk<'_> {
    fn finish(&mut self, at: usize, done: CaseRecord, fail_fast: bool) {
        self.progress.finished(&done);
        self.tell(&Event::CaseFinished { case: Box::new(done.clone()) });
        if fail_fast && !matches!(done.verdict, Verdict::Pass | Verdict::Skip { .. }) {
            self.schedule.stop_after(at);
        }
        self.done[at] = Some(done);
    }

    fn tell(&mut self, event: &Event) {
        if let Err(error) = self.log.append(event) {
            self.failed.get_or_insert(error);
        }
    }
}

/// The desk holds whole facts only: a lane that panicked left nothing half-said.
fn lock<'a, 'b>(desk: &'a Mutex<Desk<'b>>) -> MutexGuard<'a, Desk<'b>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn case(gate: &str, artifact: &str, prompt: Option<&str>) -> Case {
        let named = |name: &str| (name.to_owned(), format!("text of {name}"));
        Case {
            id: format!("s/{gate}/m/{artifact}/{prompt:?}"),
            suite: "s".into(),
            gate: gate.into(),
            model: "m".into(),
            artifact: artifact.into(),
            backend: "cpu".into(),
            prompt: prompt.map(named),
            prompts: if prompt.is_none() { vec![named("x"), named("y")] } else { Vec::new() },
            against: None,
            tokens: 32,
            limits: BTreeMap::new(),
            expect_fail: None,
            optional: false,
            optional_backends: Vec::new(),
            timeout_s: 10,
            at: At { line: 9, column: 1 },
            probe: None,
        }
    }

    #[test]
    fn what_takes_all_threads_comes_first_within_a_model_and_files_stand_together() {
        let of = |model: &str, gate: &str, artifact: &str| Case {
            model: model.into(),
            ..case(gate, artifact, None)
        };
        let cases = [
            of("m", "lint", "a"),
            of("m", "perplexity", "b"),
            of("n", "perplexity", "a"),
            of("m", "lint", "b"),
            of("m", "perplexity", "a"),
            of("m", "lint", "a"),
        ];
        assert_eq!(grouped(&cases, |case| case.gate == "perplexity"), [4, 1, 0, 5, 3, 2]);
        assert_eq!(grouped(&cases, |_| false), [0, 4, 5, 1, 3, 2]);
    }

    #[test]
    fn a_case_of_one_prompt_knows_those_of_the_cases_beside_it() {
        let mut elsewhere = case("canary", "a", Some("e"));
        elsewhere.at.line += 1;
        let cases = [
            case("canary", "a", Some("x")),
            case("canary", "b", Some("y")),
            case("token-parity", "a", Some("z")),
            elsewhere,
            case("canary", "a", Some("y")),
            case("contract-i1", "a", None),
        ];
        let names = |case: &Case| -> Vec<String> {
            prompts(case, &cases).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&cases[0]), ["x", "y"]);
        assert_eq!(names(&cases[4]), ["x", "y"]);
        assert_eq!((names(&cases[1]), names(&cases[3])), (vec!["y".to_owned()], vec!["e".to_owned()]));
        assert_eq!(names(&cases[5]), ["x", "y"]);
    }
}
