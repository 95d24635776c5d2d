//! The evidence log, one JSON event a line: what the runner writes, and how a record is read back from it.
//!
//! A crash loses at most the cases in flight, so a log may end in the middle of a line. Everything before that
//! line counts; that it was cut is said.

use crate::error::{Error, Kind, Result};
use crate::record::{Event, RunRecord, Verdict, exit, exit_code};
use std::collections::HashSet;

/// A record read back from its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// As the run would have reported it.
    pub record: RunRecord,
    /// What a reader must know: a torn last line, a run that never said its end.
    pub notes: Vec<String>,
}

/// One event as a line of the log, with its end.
pub fn line(event: &Event) -> String {
    // Keys are text and non-finite measurements are written as text.
    let mut line = serde_json::to_string(event).expect("an event serializes");
    line.push('\n');
    line
}

/// The events that a run with this record leaves behind.
pub fn events(record: &RunRecord) -> Vec<Event> {
    let started = RunRecord {
        cases: Vec::new(),
        seconds: 0.0,
        exit_code: 0,
        interrupted: None,
        not_run: 0,
        ..record.clone()
    };
    let planned = record.cases.len() as u64 + record.not_run;
    let mut events = vec![Event::RunStarted { record: started, planned }];
    for case in &record.cases {
        events.push(Event::CaseStarted { id: case.id.clone() });
        events.push(Event::CaseFinished { case: Box::new(case.clone()) });
    }
    events.push(Event::RunFinished {
        exit_code: record.exit_code,
        seconds: record.seconds,
        interrupted: record.interrupted.clone(),
        not_run: record.not_run,
        provenance: record.provenance.clone(),
    });
    events
}

/// [`events`] as the text of a log.
pub fn render(record: &RunRecord) -> String {
    events(record).iter().map(line).collect()
}

impl RunRecord {
    /// Reads a record back from its evidence log. `file` is named in errors.
    ///
    /// A last line without its end that is no event is left out and noted. A log without its last event is a run
    /// that broke off: the record says so and its exit code is no success.
    ///
    /// # Errors
    /// [`Kind::Malformed`] for any other line that is no event or stands in the wrong place;
    /// [`Kind::Unsupported`] for a schema version that this program does not know.
    pub fn from_evidence(file: &str, bytes: &[u8]) -> Result<Replay> {
        let mut reader = Reader { file, state: State::Nothing, ids: HashSet::new(), notes: Vec::new() };
        let whole = bytes.last().is_none_or(|b| *b == b'\n');
        let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        // After a final line end there is one empty piece.
        let count = if whole { lines.len() - 1 } else { lines.len() };
        for (n, line) in lines[..count].iter().enumerate() {
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => reader.event(n + 1, event)?,
                Err(_) if n + 1 == count && !whole => {
                    reader.notes.push(format!("line {} is cut off and was left out", n + 1));
                }
                Err(error) => return Err(reader.fault(n + 1, format!("is no event: {error}"))),
            }
        }
        reader.finish()
    }
}

struct Reader<'a> {
    file: &'a str,
    state: State,
    ids: HashSet<String>,
    notes: Vec<String>,
}

enum State {
    Nothing,
    Running { record: Box<RunRecord>, planned: u64, in_flight: Vec<String> },
    Finished(Box<RunRecord>),
}

impl Reader<'_> {
    fn event(&mut self, line: usize, event: Event) -> Result<()> {
        let state = std::mem::replace(&mut self.state, State::Nothing);
        self.state = match (state, event) {
            (State::Nothing, Event::RunStarted { record, .. }) if record.schema != RunRecord::SCHEMA => {
                let what = format!("evidence of schema {}", record.schema);
                let hint = format!("this program reads schema {}", RunRecord::SCHEMA);
                return Err(Error::unsupported(self.file, what).at(format!("line {line}")).hint(hint));
            }
            (State::Nothing, Event::RunStarted { record, planned }) => {
                State::Running { record: Box::new(record), planned, in_flight: Vec::new() }
            }
            (State::Running { record, planned, mut in_flight }, Event::CaseStarted { id }) => {
                in_flight.push(id);
                State::Running { record, planned, in_flight }
            }
            (State::Running { mut record, planned, mut in_flight }, Event::CaseFinished { case }) => {
                if !self.ids.insert(case.id.clone()) {
                    return Err(self.fault(line, format!("ends the case `{}` a second time", case.id)));
                }
                in_flight.retain(|id| *id != case.id);
                record.cases.push(*case);
                State::Running { record, planned, in_flight }
            }
            (
                State::Running { mut record, .. },
                Event::RunFinished { exit_code, seconds, interrupted, not_run, provenance },
            ) => {
                record.exit_code = exit_code;
                record.seconds = seconds;
                record.interrupted = interrupted;
                record.not_run = not_run;
                record.provenance.extend(provenance);
                State::Finished(record)
            }
            (
                State::Nothing,
                Event::CaseStarted { .. } | Event::CaseFinished { .. } | Event::RunFinished { .. },
            ) => {
                return Err(self.fault(line, "comes before the run started".into()));
            }
            (State::Running { .. }, Event::RunStarted { .. }) => {
                return Err(self.fault(line, "starts a second run".into()));
            }
            (
                State::Finished(_),
                Event::RunStarted { .. }
                | Event::CaseStarted { .. }
                | Event::CaseFinished { .. }
                | Event::RunFinished { .. },
            ) => return Err(self.fault(line, "comes after the run ended".into())),
        };
        Ok(())
    }

    fn finish(mut self) -> Result<Replay> {
        match self.state {
            State::Finished(record) => Ok(Replay { record: *record, notes: self.notes }),
            State::Running { mut record, planned, in_flight } => {
                let names: Vec<String> = in_flight.iter().map(|id| format!("`{id}`")).collect();
                let during = match names.is_empty() {
                    true => String::new(),
                    false => format!(" during {}", names.join(", ")),
                };
                self.notes.push(format!("the run broke off{during}; its end is not in the evidence"));
                record.interrupted = Some(format!("broke off{during}"));
                record.not_run = planned.saturating_sub(record.cases.len() as u64);
                record.seconds = record.cases.iter().map(|c| c.seconds).sum();
                let failed = record.cases.iter().any(|c| matches!(c.verdict, Verdict::Fail { .. }));
                // What did not run was not measured: a failure counts, anything else is an error.
                record.exit_code = if failed { exit_code(&record.cases, &[]) } else { exit::ERROR };
                Ok(Replay { record: *record, notes: self.notes })
            }
            State::Nothing => {
                let error = Error::new(Kind::Malformed, self.file, "holds no run");
                Err(error.hint("the first line of evidence starts the run"))
            }
        }
    }

    fn fault(&self, line: usize, what: String) -> Error {
        Error::malformed(self.file, what).at(format!("line {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn the_record_comes_back_whole() {
        let record = fixture::sample();
        let replay = RunRecord::from_evidence("e", render(&record).as_bytes()).expect("valid");
        assert_eq!(replay, Replay { record, notes: Vec::new() });
    }

    /// Evidence from before adapters were named says of none.
    #[test]
    fn older_evidence_is_read() {
        let mut record = fixture::sample();
        let log = render(&record);
        let old: String = log.lines().map(|line| without_adapter(line) + "\n").collect();
        assert!(old != log && !old.contains("\"adapter\":{"));
        record.cases.iter_mut().for_each(|case| case.adapter = None);
        assert_eq!(RunRecord::from_evidence("e", old.as_bytes()).expect("valid").record, record);
    }

    fn without_adapter(line: &str) -> String {
        let Some(start) = line.find("\"adapter\":{") else { return line.to_owned() };
        let end = start + line[start..].find("},").expect("it ends") + "},".len();
        format!("{}{}", &line[..start], &line[end..])
    }

    /// Cut anywhere, the log gives what was finished before the cut, or an error if nothing was.
    #[test]
    fn a_cut_loses_at_most_the_case_in_flight() {
        let record = fixture::sample();
        let log = render(&record);
        let first = log.find('\n').expect("lines") + 1;
        for end in (0..log.len()).step_by(61) {
            let replay = RunRecord::from_evidence("e", &log.as_bytes()[..end]);
            let finished = log.as_bytes()[..end].split(|b| *b == b'\n').filter(|l| {
                serde_json::from_slice::<Event>(l).is_ok_and(|e| matches!(e, Event::CaseFinished { .. }))
            });
            let finished = finished.count();
            match replay {
                Ok(replay) => {
                    assert_eq!(replay.record.cases, record.cases[..finished], "cut at {end}");
                    assert!(replay.record.interrupted.is_some() && replay.record.exit_code != 0);
                    assert!(!replay.notes.is_empty());
                    let all = replay.record.cases.len() as u64 + replay.record.not_run;
                    assert_eq!(all, record.cases.len() as u64 + record.not_run);
                }
                Err(error) => assert!(end < first && error.kind == Kind::Malformed, "cut at {end}: {error}"),
            }
        }
    }

    #[test]
    fn damage_elsewhere_is_an_error_with_its_line() {
        let lines: Vec<String> = events(&fixture::sample()).iter().map(line).collect();
        let with = |change: &dyn Fn(&mut Vec<String>)| {
            let mut changed = lines.clone();
            change(&mut changed);
            RunRecord::from_evidence("e.jsonl", changed.concat().as_bytes()).expect_err("damaged").to_string()
        };
        assert!(with(&|l| l[1] = "{}\n".into()).starts_with("e.jsonl: line 2: is no event"));
        assert!(with(&|l| l[1] = "\u{0}\n".into()).starts_with("e.jsonl: line 2: is no event"));
        assert!(
            with(&|l| {
                l.remove(0);
            })
            .contains("line 1: comes before the run started")
        );
        assert!(with(&|l| l.insert(1, lines[0].clone())).contains("line 2: starts a second run"));
        assert!(with(&|l| l.insert(3, lines[2].clone())).contains("a second time"));
        assert!(with(&|l| l.push(lines[1].clone())).contains("comes after the run ended"));
        assert!(
            with(&|l| l[0] = l[0].replacen("\"schema\":1", "\"schema\":9", 1))
                .contains("evidence of schema 9")
        );
        assert!(with(&|l| l.clear()).contains("holds no run"));
    }
}
