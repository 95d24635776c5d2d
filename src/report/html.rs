//! One HTML file for reviewers: the verdict on one screen, then everything that did not pass with its numbers,
//! charts and tokens, then every case, then what was run on what.
//!
//! The file needs no network and no script, and says so itself by its content security policy. It is dark or light
//! as its reader is, prints whole, and its markup is well-formed XML. Text of others goes through
//! [`element::Element`] alone, which escapes it. What does not fit is left out and counted.

mod banner;
mod case;
mod charts;
mod element;
mod numbers;
mod room;
mod suites;
mod tokens;

use super::verdict::{failures, message, outcome};
use super::{RenderOptions, Report};
use crate::record::{CaseRecord, RunRecord, Verdict};
use element::{Element, el};
use room::Room;

/// `report.html`.
pub(super) struct Html;

/// Bytes of a page: what a browser opens without delay and a mail server still takes.
const LARGEST: usize = 4 * 1024 * 1024;

impl Report for Html {
    fn id(&self) -> &'static str {
        "html"
    }

    fn file_name(&self) -> &'static str {
        "report.html"
    }

    fn render(&self, record: &RunRecord, _: &RenderOptions) -> Vec<u8> {
        within(record, LARGEST).into_bytes()
    }
}

/// The page in at most `limit` bytes, or as small as it can be.
fn within(record: &RunRecord, limit: usize) -> String {
    let mut text = String::new();
    for room in Room::ALL {
        text = page(record, room);
        if text.len() <= limit {
            break;
        }
    }
    text
}

/// Nothing is loaded, run, framed or sent; the one style sheet stands in the page.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

fn page(record: &RunRecord, room: Room) -> String {
    let title = format!("{}: {}", outcome(record).to_uppercase(), room.line(&record.playbook));
    let meta = |name: &'static str, content: &str| el("meta").at("name", name).at("content", content);
    let head = el("head")
        .put(el("meta").at("charset", "utf-8"))
        .put(el("meta").at("http-equiv", "Content-Security-Policy").at("content", POLICY))
        .put(meta("viewport", "width=device-width, initial-scale=1"))
        .put(meta("color-scheme", "light dark"))
        .put(meta("referrer", "no-referrer"))
        .put(el("title").text(title))
        // Without one a browser asks the server for an icon.
        .put(el("link").at("rel", "icon").at("href", "data:,"))
        .put(el("style").sheet(include_str!("html/report.css")));
    let main = el("main")
        .put_all(not_passed(record, room))
        .put_all(suites::sections(record, room))
        .put_all(drawn_passes(record, room))
        .put_all(expected_failures(record, room))
        .put_all(skips(record, room))
        .put_all(provenance(record, room));
    let body = el("body").put(hatching()).put(banner::banner(record, room)).put(main).put(footer());
    format!("<!DOCTYPE html>\n{}", el("html").at("lang", "en").put(head).put(body))
}

/// The pattern that charts mark with what must not be told by color alone.
fn hatching() -> Element {
    let pattern = el("pattern").at("id", "hatch").at("width", "5").at("height", "5");
    let pattern = pattern.at("patternUnits", "userSpaceOnUse").at("patternTransform", "rotate(45)");
    let line = el("line").at("x1", "0").at("y1", "0").at("x2", "0").at("y2", "5");
    let svg = el("svg").class("defs").at("aria-hidden", "true").at("width", "0").at("height", "0");
    svg.put(el("defs").put(pattern.put(line)))
}

/// `n cases omitted`, where there are more than `shown`.
fn left_out(count: usize, shown: usize, things: &str) -> Option<Element> {
    (count > shown).then(|| {
        let text = format!("{} {things} omitted; the JSON report has them.", count - shown);
        el("p").class("omitted").text(text)
    })
}

fn section(id: &'static str, title: &str) -> Element {
    let heading = format!("{id}-title");
    let section = el("section").at("id", id).at("aria-labelledby", &heading);
    section.put(el("h2").at("id", &heading).text(title))
}

/// The place of a case in the plan.
fn place(record: &RunRecord, case: &CaseRecord) -> usize {
    record.cases.iter().position(|c| std::ptr::eq(c, case)).unwrap_or(0)
}

/// Articles for `cases` as long as there is room for them and for their charts.
fn articles<'a>(record: &RunRecord, cases: &[&'a CaseRecord], room: Room) -> Vec<(&'a CaseRecord, Element)> {
    let mut charts_left = room.charts;
    let mut all = Vec::new();
    for case in cases.iter().take(room.cases) {
        all.push((*case, case::article(case, place(record, case), charts_left, room)));
        charts_left = charts_left.saturating_sub(case.charts.len());
    }
    all
}

fn not_passed(record: &RunRecord, room: Room) -> Option<Element> {
    let failed = failures(record);
    if failed.is_empty() {
        return None;
    }
    let articles = articles(record, &failed, room).into_iter().map(|(_, article)| article);
    let section = section("failures", "What did not pass, and why").put_all(articles);
    Some(section.put_all(left_out(failed.len(), room.cases, "cases")))
}

/// Cases that passed and have something to look at, folded.
fn drawn_passes(record: &RunRecord, room: Room) -> Option<Element> {
    let drawn = |c: &&CaseRecord| {
        let interval = c.measurements.iter().any(|m| m.interval.is_some());
        c.verdict == Verdict::Pass && (interval || !c.charts.is_empty() || !c.departures.is_empty())
    };
    let passed: Vec<&CaseRecord> = record.cases.iter().filter(drawn).collect();
    if passed.is_empty() {
        return None;
    }
    let folded = articles(record, &passed, room).into_iter().map(|(case, article)| {
        let summary =
            el("summary").put(case::badge(case)).text(" ").put(el("code").text(room.line(&case.id)));
        el("details").put(summary).put(article)
    });
    let section = section("passes", "Passed, with intervals and charts").put_all(folded);
    Some(section.put_all(left_out(passed.len(), room.cases, "cases")))
}

fn expected_failures(record: &RunRecord, room: Room) -> Option<Element> {
    let all: Vec<(&CaseRecord, &str)> = record
        .cases
        .iter()
        .filter(|c| c.verdict == Verdict::Pass)
        .filter_map(|c| c.expected_failure.as_deref().map(|reason| (c, reason)))
        .collect();
    listed("expected", "Expected failures", &all, room)
}

fn skips(record: &RunRecord, room: Room) -> Option<Element> {
    let skipped = record.cases.iter().filter(|c| matches!(c.verdict, Verdict::Skip { .. }));
    let all: Vec<(&CaseRecord, &str)> = skipped.map(|c| (c, message(c))).collect();
    listed("skipped", "Skipped", &all, room)
}

/// A section of cases with a sentence each; none if it would be empty.
fn listed(id: &'static str, title: &str, all: &[(&CaseRecord, &str)], room: Room) -> Option<Element> {
    if all.is_empty() {
        return None;
    }
    let items = all.iter().take(room.listed).map(|(case, why)| {
        el("li").put(el("code").text(room.line(&case.id))).put(el("br")).text(room.line(why))
    });
    let section = section(id, title).put(el("ul").class("listed").put_all(items));
    Some(section.put_all(left_out(all.len(), room.listed, "cases")))
}

fn provenance(record: &RunRecord, room: Room) -> Option<Element> {
    if record.provenance.is_empty() {
        return None;
    }
    let rows = record.provenance.iter().take(room.listed).map(|(what, value)| {
        let value = el("td").put(el("code").text(room.line(value)));
        el("tr").put(el("th").at("scope", "row").text(room.line(what))).put(value)
    });
    let table = el("table").class("provenance").put(el("caption").text("What was run, on what, by what"));
    let section = section("provenance", "Provenance").put(table.put(el("tbody").put_all(rows)));
    Some(section.put_all(left_out(record.provenance.len(), room.listed, "rows")))
}

fn footer() -> Element {
    let text = "Everything here follows from the evidence of the run alone, evidence.jsonl. From it ";
    let command = el("code").text("apr-qa-runner report evidence.jsonl");
    el("footer").put(el("p").text(text).put(command).text(" writes this page again."))
}

#[cfg(test)]
mod tests;
