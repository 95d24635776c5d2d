//! What a person sees while a run lasts, on stderr: a bar on a terminal, in CI one line per finished case.

use crate::record::{CaseRecord, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar, for a terminal.
    Bar,
    /// One line per finished case.
    Lines,
    /// Nothing.
    None,
}

/// The progress of one run.
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    finished: u64,
    planned: u64,
    /// When each case that runs was last spoken of.
    running: HashMap<String, Instant>,
}

/// A case is called slow again after this time.
const SLOW: Duration = Duration::from_secs(60);

impl Progress {
    /// Progress over `planned` cases.
    pub fn new(style: Style, planned: u64) -> Progress {
        let target = match style {
            Style::Bar => ProgressDrawTarget::stderr(),
            Style::Lines | Style::None => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(planned), target);
        // The template is a constant; a broken one would only fall back to indicatif's default.
        if let Ok(template) = ProgressStyle::with_template("{pos}/{len} [{bar:30}] {elapsed} {msg}") {
            bar.set_style(template.progress_chars("=> "));
        }
        Progress { style, bar, finished: 0, planned, running: HashMap::new() }
    }

    /// The case `id` began.
    pub fn started(&mut self, id: &str) {
        self.running.insert(id.to_owned(), Instant::now());
        self.bar.set_message(id.to_owned());
    }

    /// A running case goes on: a sign of life once a minute.
    pub fn waiting(&mut self, id: &str, so_far: Duration) {
        self.bar.tick();
        if self.running.get(id).is_some_and(|said| said.elapsed() >= SLOW) {
            self.running.insert(id.to_owned(), Instant::now());
            self.say(&format!("SLOW {:>4} s  {id}", so_far.as_secs()));
        }
    }

    /// A case ended.
    pub fn finished(&mut self, case: &CaseRecord) {
        self.running.remove(&case.id);
        self.finished += 1;
        self.bar.inc(1);
        let word = match &case.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail { .. } => "FAIL",
            Verdict::Inconclusive { .. } => "INCONCLUSIVE",
            Verdict::Skip { .. } => "skip",
            Verdict::Error { .. } => "ERROR",
        };
        let passed = case.verdict == Verdict::Pass;
        match self.style {
            // A terminal shows what went wrong above the bar; passes only move it.
            Style::Bar if passed => {}
            Style::Bar => self.say(&format!("{word}  {}", case.id)),
            Style::Lines => {
                let count = format!("[{}/{}]", self.finished, self.planned);
                self.say(&format!("{count} {word} {:.2} s  {}", case.seconds, case.id));
            }
            Style::None => {}
        }
    }

    /// The run ended.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        match self.style {
            Style::Bar => self.bar.println(line),
            Style::Lines => eprintln!("{line}"),
            Style::None => {}
        }
    }
}
