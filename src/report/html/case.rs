//! One case in full: why, the likely cause, the numbers, the charts, the tokens, and how to see it again.

use super::super::text::{cut, one_line, seconds};
use super::super::verdict::{message, word};
use super::element::{Element, el};
use super::room::Room;
use super::{charts, left_out, numbers, tokens};
use crate::record::{Adapter, CaseRecord, Finding, Verdict};

/// The case as an article under a heading of the level `heading`, with at most `charts` charts. `n` is its place
/// in the plan.
pub(super) fn article(case: &CaseRecord, n: usize, charts: usize, room: Room) -> Element {
    let id = anchor(n);
    let head = el("h3").put(badge(case)).text(" ").put(el("code").text(room.line(&case.id)));
    let mut article = el("article").class(word(&case.verdict)).at("id", &id).put(head);
    if !message(case).is_empty() {
        article = article.put(el("p").class("message").text(room.line(message(case))));
    }
    article
        .put(place(case, room))
        .put_all(findings(&case.findings, room))
        .put_all(numbers::table(&case.measurements, &id, room))
        .put_all(figures(case, &id, charts, room))
        .put_all(tokens::table(&case.departures, room))
        .put_all(detail(case, room))
        .put_all(reproduce(case))
}

/// Where a link to the case of that place in the plan leads.
pub(super) fn anchor(n: usize) -> String {
    format!("case-{n}")
}

/// The verdict as a sign and a word.
pub(super) fn badge(case: &CaseRecord) -> Element {
    let word = match &case.verdict {
        Verdict::Pass if case.expected_failure.is_some() => "expected failure",
        verdict => word(verdict),
    };
    el("span")
        .class(&format!("badge {}", super::super::verdict::word(&case.verdict)))
        .text(format!("{} {word}", sign(&case.verdict)))
}

/// A sign for each verdict, so that none is told by its color alone.
pub(super) fn sign(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::Fail { .. } => "✗",
        Verdict::Inconclusive { .. } => "?",
        Verdict::Skip { .. } => "–",
        Verdict::Error { .. } => "!",
    }
}

/// The first finding that names a cause: what to fix.
pub(super) fn likely_cause(case: &CaseRecord) -> Option<(&Finding, &str)> {
    case.findings.iter().find_map(|f| f.cause.as_deref().map(|cause| (f, cause)))
}

/// A cause in words: `rows-permuted` is `rows permuted`.
pub(super) fn cause_in_words(cause: &str, room: Room) -> String {
    room.line(cause).replace('-', " ")
}

fn place(case: &CaseRecord, room: Room) -> Element {
    let kind = match &case.verdict {
        Verdict::Fail { kind, .. } | Verdict::Error { kind, .. } => Some(kind.as_str()),
        Verdict::Pass | Verdict::Inconclusive { .. } | Verdict::Skip { .. } => None,
    };
    let asked = format!("{}:{}", case.file, case.line);
    let took = seconds(case.seconds);
    let adapter = case.adapter.as_ref().map(Adapter::to_string);
    let features = case.adapter.as_ref().map(|adapter| adapter.features.join(" "));
    let facts = [
        ("kind", kind),
        ("gate", Some(case.gate.as_str())),
        ("contract", case.contract_id.as_deref()),
        ("model", Some(case.model.as_str())),
        ("artifact", Some(case.artifact.as_str())),
        ("backend", Some(case.backend.as_str()).filter(|b| !b.is_empty())),
        ("adapter", adapter.as_deref()),
        ("adapter features", features.as_deref().filter(|f| !f.is_empty())),
        ("prompt", case.prompt.as_deref()),
        ("asked for in", Some(asked.as_str())),
        ("took", Some(took.as_str())),
    ];
    let facts = facts.into_iter().filter_map(|(what, value)| {
        let value = el("dd").text(room.line(value?));
        Some(el("div").put(el("dt").text(what)).put(value))
    });
    el("dl").class("facts").put_all(facts)
}

fn findings(findings: &[Finding], room: Room) -> Option<Element> {
    if findings.is_empty() {
        return None;
    }
    let caused = findings.iter().any(|f| f.cause.is_some());
    let heads = ["what", "finding"].into_iter().chain(caused.then_some("likely cause"));
    let heads = heads.map(|head| el("th").at("scope", "col").text(head));
    let rows = findings.iter().take(room.each).map(|f| {
        let name =
            el("th").at("scope", "row").at("data-label", "what").put(el("code").text(room.line(&f.subject)));
        let row = el("tr").put(name).put(el("td").at("data-label", "finding").text(room.line(&f.detail)));
        let cause = f.cause.as_deref().map(|cause| el("strong").text(cause_in_words(cause, room)));
        row.put_all(caused.then(|| el("td").at("data-label", "likely cause").put_all(cause)))
    });
    let table = el("table").class("cards").put(el("caption").text("Found, worst first"));
    let table = table.put(el("thead").put(el("tr").put_all(heads))).put(el("tbody").put_all(rows));
    Some(el("div").put(table).put_all(left_out(findings.len(), room.each, "findings")))
}

fn figures(case: &CaseRecord, id: &str, most: usize, room: Room) -> Vec<Element> {
    let drawn = case.charts.iter().enumerate().take(most);
    let mut all: Vec<Element> =
        drawn.filter_map(|(n, chart)| charts::figure(chart, &format!("{id}-c{n}"), room)).collect();
    all.extend(left_out(case.charts.len(), most, "charts"));
    all
}

fn detail(case: &CaseRecord, room: Room) -> Option<Element> {
    let text = cut(super::super::text::plain(&case.detail).trim_end(), room.detail);
    let block = || el("pre").at("tabindex", "0").at("role", "group").at("aria-label", "detail").text(&text);
    (!text.trim().is_empty()).then(block)
}

/// A command that is cut is no command; only a hostile one is longer.
const LONGEST_COMMAND: usize = 1_000;

/// The command in a box that one click selects whole.
fn reproduce(case: &CaseRecord) -> Option<Element> {
    let command = cut(&one_line(&case.reproduce), LONGEST_COMMAND);
    let label = el("p").class("label").text("Reproduce");
    let code = el("pre")
        .class("command")
        .at("tabindex", "0")
        .at("role", "group")
        .at("aria-label", "command that reproduces this case");
    (!command.is_empty()).then(|| el("div").put(label).put(code.put(el("code").text(command))))
}
