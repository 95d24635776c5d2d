//! After a gate about numbers failed: where the artifact parts from its original, added to what the gate found. The
//! verdict is the gate's, whatever comes of this.

use crate::playbook::Case;
use crate::record::{Judgement, Verdict};
use crate::subject::Opened;
use crate::subject::localise::{Localisation, Request, SAMPLE, TOKENS, localise};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The two sides that are walked.
#[derive(Clone)]
pub struct Sides {
    /// The artifact under test.
    pub candidate: Opened,
    /// What it was made from, or is compared with.
    pub reference: Opened,
}

/// Adds to a failed judgement where the two sides part, or why that could not be found out. Takes at most half of
/// what is left of the case's time.
pub fn explain(judged: &mut Judgement, case: &Case, sides: Result<Sides, String>, started: Instant) {
    match judged.verdict {
        Verdict::Fail { .. } => {}
        Verdict::Pass | Verdict::Inconclusive { .. } | Verdict::Skip { .. } | Verdict::Error { .. } => return,
    }
    let left = Duration::from_secs(case.timeout_s).saturating_sub(started.elapsed()) / 2;
    match sides.and_then(|sides| walked(sides, text(case), left)) {
        Ok(found) => add(judged, found),
        Err(why) => tell(judged, &format!("not localised: {why}")),
    }
}

/// What the case itself feeds, where it feeds something.
fn text(case: &Case) -> String {
    let prompt = case.prompt.as_ref().or(case.prompts.first());
    // A short prompt says little about positions.
    prompt.map_or(SAMPLE.to_owned(), |(_, text)| format!("{text} {SAMPLE}"))
}

fn walked(sides: Sides, text: String, left: Duration) -> Result<Localisation, String> {
    let until = Instant::now() + left;
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        let Sides { candidate, reference } = sides;
        let request = Request { text: &text, tokens: TOKENS, until: Some(until) };
        // The receiver may have given up: then nobody wants it.
        let _ = sender.send(localise(&candidate, &reference, &request));
    };
    thread::Builder::new().name("localise".into()).spawn(work).map_err(|e| format!("no thread: {e}"))?;
    match receiver.recv_timeout(left) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(error.to_string()),
        Err(RecvTimeoutError::Timeout) => Err(format!("it would take longer than {} s", left.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err("the walk panicked".into()),
    }
}

fn add(judged: &mut Judgement, found: Localisation) {
    if let Some(finding) = found.finding {
        judged.findings.insert(0, finding);
    }
    judged.charts.extend(found.charts);
    tell(judged, &found.headline);
    if found.walk.first_over.is_some() {
        tell(judged, &format!("the error of the logits: {}", found.symptom.phrase()));
    }
    for (i, cause) in found.causes.iter().take(MOST_CAUSES).enumerate() {
        tell(judged, &format!("{}. {} ({:.0} %): {}", i + 1, cause.id, 100.0 * cause.score, cause.sentence));
    }
    for note in &found.notes {
        tell(judged, &format!("note: {note}"));
    }
}

/// So many causes a reader weighs.
const MOST_CAUSES: usize = 5;

fn tell(judged: &mut Judgement, line: &str) {
    if !judged.detail.is_empty() {
        judged.detail.push('\n');
    }
    judged.detail.push_str(line);
}
