//! The parts of the report, in the order in which they are read.

use super::super::chart;
use super::super::text::{headroom, limit, measured, number, seconds, value};
use super::super::verdict::{Counts, failures, message, outcome, word};
use super::Room;
use super::escape::{block, cell, code, name};
use crate::record::{CaseRecord, Measurement, RunRecord, Verdict};

/// The whole report with as much of everything as there is room for.
pub(super) fn render(record: &RunRecord, room: Room) -> String {
    let mut text = header(record, room);
    text.push_str(&first_screen(record, room));
    text.push_str(&suites(record, room));
    text.push_str(&details(record, room));
    text.push_str(&drawn_passes(record, room));
    text.push_str(&expected(record, room));
    text.push_str(&skipped(record, room));
    text.push_str(&provenance(record, room));
    text
}

/// Rows of failures on the first screen.
const FIRST_SCREEN: usize = 12;

fn header(record: &RunRecord, room: Room) -> String {
    let word = outcome(record);
    let sign = match word {
        "pass" => "✅",
        "inconclusive" | "nothing" | "interrupted" => "⚠️",
        _ => "❌",
    };
    let counts = Counts::of(&record.cases);
    let mut text = format!("# {sign} {}: {}\n\n", word.to_uppercase(), cell(&record.playbook, room.text));
    let noun = if counts.total() == 1 { "case" } else { "cases" };
    text.push_str(&format!(
        "{} {noun} of {} in {}, started {}, exit code {}.",
        counts.total(),
        name(&record.file, room.text),
        seconds(record.seconds),
        cell(&record.started_at, room.text),
        record.exit_code,
    ));
    if let Some(signal) = &record.interrupted {
        text.push_str(&format!(" **Interrupted: {}.**", cell(signal, room.text)));
    }
    if record.not_run > 0 {
        text.push_str(&format!(" **{} planned cases did not run.**", record.not_run));
    }
    text.push_str(
        "\n\n| passed | failed | errors | inconclusive | skipped | not run |\n|--:|--:|--:|--:|--:|--:|\n",
    );
    text.push_str(&format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        counts.passed, counts.failed, counts.errors, counts.inconclusive, counts.skipped, record.not_run
    ));
    if counts.expected_failures > 0 {
        let n = counts.expected_failures;
        let verb = if n == 1 { "is an expected failure" } else { "are expected failures" };
        text.push_str(&format!("\nOf the passed, {n} {verb}: a stated weakness that was measured again.\n"));
    }
    text
}

/// What did not pass, worst first, each number with its limit.
fn first_screen(record: &RunRecord, room: Room) -> String {
    let failed = failures(record);
    if failed.is_empty() {
        return String::new();
    }
    let shown = failed.len().min(FIRST_SCREEN).min(room.failures);
    let mut text = String::from("\n## What did not pass\n\n");
    if shown > 0 {
        text.push_str("| case | verdict | value | limit | headroom | source |\n|---|---|--:|--:|--:|---|\n");
    }
    for case in &failed[..shown] {
        let verdict = match &case.verdict {
            Verdict::Fail { kind, .. } | Verdict::Error { kind, .. } => {
                format!("{}: {}", word(&case.verdict), cell(kind, room.text))
            }
            Verdict::Pass | Verdict::Inconclusive { .. } | Verdict::Skip { .. } => {
                word(&case.verdict).to_owned()
            }
        };
        text.push_str(&format!("| {} | {verdict} | {} |\n", name(&case.id, room.text), numbers(case, room)));
    }
    if failed.len() > shown {
        text.push_str(&format!("\n{} more rows omitted here.\n", failed.len() - shown));
    }
    text
}

/// `value | limit | headroom | source` of the deciding measurement, dashes where there is none.
fn numbers(case: &CaseRecord, room: Room) -> String {
    let Some(m) = case.measurements.first() else { return "- | - | - | -".to_owned() };
    let (mut bound, source) = match &m.limit {
        Some(l) => (limit(l), cell(&l.source, room.text)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    if let Some(floor) = m.floor {
        bound.push_str(&format!(" (floor {})", number(floor)));
    }
    let between = m.interval.as_ref().map(|i| format!(" [{}, {}]", number(i.low), number(i.high)));
    let between = cell(&between.unwrap_or_default(), room.text);
    let room_left = headroom(m).unwrap_or_else(|| "-".to_owned());
    format!("{}{between} | {bound} | {room_left} | {source}", cell(&value(m), room.text))
}

/// A table per suite; where rows are scarce, those that did not pass come first.
fn suites(record: &RunRecord, room: Room) -> String {
    let mut order: Vec<&str> = Vec::new();
    for case in &record.cases {
        if order.last() != Some(&case.suite.as_str()) && !order.contains(&case.suite.as_str()) {
            order.push(&case.suite);
        }
    }
    let mut text = String::new();
    let mut rows_left = room.rows;
    for suite in order.iter().take(room.suites) {
        let cases: Vec<&CaseRecord> = record.cases.iter().filter(|c| c.suite == *suite).collect();
        let counts = Counts::of(cases.iter().copied());
        let title = cell(suite, room.text);
        text.push_str(&format!("\n## Suite {title}\n\n{}.\n", counts.in_words()));
        text.push_str(&adapters(&cases, room));
        rows_left -= table(&mut text, &cases, rows_left, room);
    }
    if order.len() > room.suites {
        text.push_str(&format!(
            "\n{} suites omitted; the JSON report has them.\n",
            order.len() - room.suites
        ));
    }
    text
}

/// What the cases that did not compute on the processor alone computed on.
fn adapters(cases: &[&CaseRecord], room: Room) -> String {
    let mut seen: Vec<String> = Vec::new();
    for adapter in cases.iter().filter_map(|case| case.adapter.as_ref()) {
        let shown = name(&adapter.to_string(), room.text);
        if !seen.contains(&shown) {
            seen.push(shown);
        }
    }
    let more = seen.len().saturating_sub(MOST_ADAPTERS);
    seen.truncate(MOST_ADAPTERS);
    match (seen.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("\nGPU backends on {}.\n", seen.join(", ")),
        (false, more) => format!("\nGPU backends on {} and {more} more.\n", seen.join(", ")),
    }
}

/// A run uses one adapter; a record that was put together may have more.
const MOST_ADAPTERS: usize = 4;

/// Adds the table of one suite and returns how many rows it took.
fn table(text: &mut String, cases: &[&CaseRecord], rows_left: usize, room: Room) -> usize {
    let mut chosen: Vec<usize> = (0..cases.len()).collect();
    // Stable: plan order within those that passed and within those that did not.
    chosen.sort_by_key(|n| cases[*n].verdict == Verdict::Pass);
    chosen.truncate(rows_left);
    chosen.sort_unstable();
    if !chosen.is_empty() {
        text.push_str(
            "\n| gate | case | verdict | measured | n | value | limit | headroom | source | time |\n",
        );
        text.push_str("|---|---|---|---|--:|--:|--:|--:|---|--:|\n");
    }
    for n in &chosen {
        text.push_str(&suite_row(cases[*n], room));
    }
    if cases.len() > chosen.len() {
        text.push_str(&format!("\n{} rows omitted; the JSON report has them.\n", cases.len() - chosen.len()));
    }
    chosen.len()
}

fn suite_row(case: &CaseRecord, room: Room) -> String {
    let sign = match &case.verdict {
        Verdict::Pass if case.expected_failure.is_some() => "✅ expected failure",
        Verdict::Pass => "✅ pass",
        Verdict::Fail { .. } => "❌ fail",
        Verdict::Inconclusive { .. } => "⚠️ inconclusive",
        Verdict::Skip { .. } => "➖ skip",
        Verdict::Error { .. } => "💥 error",
    };
    // The id without suite and gate, which the heading and the first column say.
    let place = case.id.splitn(3, '/').nth(2).unwrap_or(&case.id);
    let gate = case.id.split('/').nth(1).unwrap_or(&case.gate);
    let first: Option<&Measurement> = case.measurements.first();
    format!(
        "| {} | {} | {sign} | {} | {} | {} | {} |\n",
        name(gate, room.text),
        name(place, room.text),
        first.map_or("-".to_owned(), |m| cell(&m.metric, room.text)),
        first.map_or("-".to_owned(), |m| m.n.to_string()),
        numbers(case, room),
        seconds(case.seconds),
    )
}

/// Each failure in words, with its findings and the command that shows it again.
fn details(record: &RunRecord, room: Room) -> String {
    let failed = failures(record);
    if failed.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n## The failures, and how to see each again\n");
    for case in failed.iter().take(room.failures) {
        text.push_str(&format!("\n### {}: {}\n\n", word(&case.verdict), name(&case.id, room.text)));
        text.push_str(&format!("{}\n\n", code(message(case), room.text)));
        for m in &case.measurements {
            text.push_str(&format!("- {}\n", code(&measured(m), room.text)));
        }
        for finding in case.findings.iter().take(MOST_FINDINGS) {
            let cause =
                finding.cause.as_deref().map(|cause| format!("; likely cause: {}", code(cause, room.text)));
            text.push_str(&format!(
                "- {}: {}{}\n",
                code(&finding.subject, room.text),
                code(&finding.detail, room.text),
                cause.unwrap_or_default()
            ));
        }
        if case.findings.len() > MOST_FINDINGS {
            text.push_str(&format!("- {} findings omitted\n", case.findings.len() - MOST_FINDINGS));
        }
        text.push_str(&strips(case, room));
        text.push_str(&departures(case, room));
        if !case.detail.trim().is_empty() {
            text.push_str(&format!("\n{}", block(&case.detail, room.detail)));
        }
        if let Some(adapter) = &case.adapter {
            text.push_str(&format!("\nAdapter: {}\n", name(&adapter.to_string(), room.text)));
        }
        text.push_str(&format!(
            "\nGate: {}, line {}. Reproduce:\n\n",
            name(&case.file, room.text),
            case.line
        ));
        text.push_str(&block(&case.reproduce, LONGEST_COMMAND));
    }
    if failed.len() > room.failures {
        let more = failed.len() - room.failures;
        text.push_str(&format!("\n{more} failures omitted; the JSON report has them.\n"));
    }
    text
}

/// Findings that are described of one case.
const MOST_FINDINGS: usize = 20;
/// A command that is cut is no command; only a hostile one is longer.
const LONGEST_COMMAND: usize = 1_000;

/// Charts as rows of blocks, each in a block of its own.
fn strips(case: &CaseRecord, room: Room) -> String {
    let drawn = case.charts.iter().filter_map(|chart| chart::lines(chart, STRIP)).take(MOST_STRIPS);
    drawn.map(|lines| format!("\n{}", block(&lines.join("\n"), room.detail.max(room.text)))).collect()
}

/// Charts that are shown of one case, and the width of their rows.
const MOST_STRIPS: usize = 4;
const STRIP: usize = 72;

/// The tokens that part furthest, in their context.
fn departures(case: &CaseRecord, room: Room) -> String {
    if case.departures.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nMost diverging tokens:\n\n");
    for d in case.departures.iter().take(MOST_DEPARTURES) {
        let quoted = |text: &str| match code(text, room.text) {
            span if span.is_empty() => format!("{} bytes of white space", text.len()),
            span => span,
        };
        text.push_str(&format!(
            "- at {}, KL {} nats, after {}: expected {}, found {}\n",
            d.position,
            number(d.kl),
            quoted(&d.context),
            quoted(&d.expected),
            quoted(&d.found)
        ));
    }
    if case.departures.len() > MOST_DEPARTURES {
        text.push_str(&format!("- {} tokens omitted\n", case.departures.len() - MOST_DEPARTURES));
    }
    text
}

/// Diverging tokens that are shown of one case.
const MOST_DEPARTURES: usize = 8;

/// Cases that passed and have something to look at.
fn drawn_passes(record: &RunRecord, room: Room) -> String {
    let passed = record.cases.iter().filter(|c| c.verdict == Verdict::Pass);
    let drawn: Vec<(&CaseRecord, String)> =
        passed.map(|c| (c, strips(c, room))).filter(|(_, strips)| !strips.is_empty()).collect();
    listed("Passed, drawn", drawn.len(), room, |n| {
        let (case, strips) = &drawn[n];
        format!("{}{}{strips}\n", if n == 0 { "" } else { "\n" }, name(&case.id, room.text))
    })
}

fn expected(record: &RunRecord, room: Room) -> String {
    let all: Vec<(&CaseRecord, &str)> = record
        .cases
        .iter()
        .filter(|c| c.verdict == Verdict::Pass)
        .filter_map(|c| c.expected_failure.as_deref().map(|reason| (c, reason)))
        .collect();
    listed("Expected failures", all.len(), room, |n| {
        let (case, reason) = all[n];
        let numbers = case.measurements.first().map(measured).unwrap_or_default();
        let numbers = if numbers.is_empty() { numbers } else { format!(" ({})", code(&numbers, room.text)) };
        format!("- {}: {}{numbers}\n", name(&case.id, room.text), code(reason, room.text))
    })
}

fn skipped(record: &RunRecord, room: Room) -> String {
    let all: Vec<&CaseRecord> =
        record.cases.iter().filter(|c| matches!(c.verdict, Verdict::Skip { .. })).collect();
    listed("Skipped", all.len(), room, |n| {
        format!("- {}: {}\n", name(&all[n].id, room.text), code(message(all[n]), room.text))
    })
}

fn provenance(record: &RunRecord, room: Room) -> String {
    let rows: Vec<(&String, &String)> = record.provenance.iter().collect();
    if rows.is_empty() {
        return String::new();
    }
    let shown = rows.len().min(room.listed);
    let mut text = String::from("\n## Provenance\n\n");
    if shown > 0 {
        text.push_str("| what | value |\n|---|---|\n");
    }
    for (key, value) in &rows[..shown] {
        text.push_str(&format!("| {} | {} |\n", cell(key, room.text), name(value, room.text)));
    }
    if rows.len() > shown {
        text.push_str(&format!("\n{} rows omitted; the JSON report has them.\n", rows.len() - shown));
    }
    text
}

/// A section of bullets, none if it would be empty.
fn listed(title: &str, count: usize, room: Room, bullet: impl Fn(usize) -> String) -> String {
    if count == 0 {
        return String::new();
    }
    let mut text = format!("\n## {title}\n\n");
    for n in 0..count.min(room.listed) {
        text.push_str(&bullet(n));
    }
    if count > room.listed {
        text.push_str(&format!("\n{} omitted; the JSON report has them.\n", count - room.listed));
    }
    text
}
